"""The conformance suite catches each provider that breaks an obligation."""

from __future__ import annotations

import pytest
from pilotis_testing.mutants import assert_caught
from pilotis_testing.notification import NotificationConformance

CAUGHT_BY = {
    "AnswersOnlyOnce": "test_each_message_has_its_receipt_in_order",
    "SameIdForAll": "test_each_message_has_its_receipt_in_order",
    "StumblesOverNothing": "test_no_messages_give_no_answers",
    "TakesHalfABatch": "test_a_full_batch_is_taken",
    "MixesCalls": "test_concurrent_calls_do_not_mix",
    "RefusesAgain": "test_the_same_message_may_come_again",
    "SpeaksAscii": "test_any_text_is_sent",
    "LogsContents": "test_nothing_personal_is_logged",
    "OpensOnce": "test_it_opens_again_after_closing",
    "ClosesOnlyOpened": "test_it_opens_again_after_closing",
    "TimesOutIntoRetries": "test_it_knows_its_errors",
    "DropsAttachments": "test_attachments",
    "DropsTemplateData": "test_templates",
    "ClaimsWebhooks": "test_webhooks",
    "HidesWebhooks": "test_webhooks",
    "LendsItsOutbox": "test_outbox",
    "ClaimsToBeImmediate": "test_immediate",
}


@pytest.mark.parametrize(("mutant", "test"), CAUGHT_BY.items())
def test_a_mutant_is_caught(pytester: pytest.Pytester, mutant: str, test: str) -> None:
    """Each fails the test of the obligation that it breaks."""
    assert_caught(pytester, NotificationConformance, f"notification_mutants.{mutant}", test)
