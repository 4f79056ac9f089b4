"""The file suite catches providers that break an obligation."""

from __future__ import annotations

import pytest
from pilotis_testing.file import FileConformance
from pilotis_testing.mutants import assert_caught

CAUGHT_BY = {
    "CommitsWhatFailed": "test_a_failed_put_keeps_the_old_file",
    "DeletesBeforeWriting": "test_a_failed_put_keeps_the_old_file",
    "IgnoresIfAbsent": "test_if_absent_creates_only",
    "LosesMetadata": "test_put_tells_the_facts",
    "ReadsEndInclusive": "test_ranges_are_slices",
    "ReopensBetweenChunks": "test_a_stream_reads_one_version",
    "TakesAbsentForEmpty": "test_what_is_absent",
    "ListsBackwards": "test_list_is_sorted_and_filtered",
    "TakesPrefixForFolder": "test_list_is_sorted_and_filtered",
    "ListsWithoutFacts": "test_list_tells_the_facts",
    "CopiesWithoutType": "test_copy",
    "MovesByCopying": "test_move",
    "StopsDeletingAtTheFirst": "test_delete",
    "RefusesToDeleteTwice": "test_delete",
    "SweepsLivingWriters": "test_sweep_leaves_files_and_writers_alone",
    "SignsForEver": "test_a_link_reads_until_it_expires",
    "AcceptsEveryLink": "test_a_link_is_for_one_file_only",
    "SignsWithoutSize": "test_an_upload_is_bound",
    "ClaimsOverlappingKeys": "test_a_key_in_the_way",
    "DeniesItsChecksums": "test_checksums_are_known_where_declared",
    "HidesConflicts": "test_a_key_in_the_way",
}


@pytest.mark.parametrize(("mutant", "test"), CAUGHT_BY.items())
def test_a_mutant_is_caught(pytester: pytest.Pytester, mutant: str, test: str) -> None:
    """Each fails the test of the obligation that it breaks."""
    arguments = "Mutant.Options(root=str(tmp_path / 'files'), fsync=False)"
    assert_caught(pytester, FileConformance, f"file_mutants.{mutant}", test, fixtures="tmp_path", arguments=arguments)
