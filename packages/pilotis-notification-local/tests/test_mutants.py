"""The conformance suite catches each provider that breaks an obligation."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from pilotis_testing.mutants import assert_caught
from pilotis_testing.notification import NotificationConformance

MUTANTS = {
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


@pytest.mark.parametrize(("mutant", "test"), MUTANTS.items())
def test_each_mutant_is_caught(pytester: pytest.Pytester, mutant: str, test: str) -> None:
    """By the test that names its obligation."""
    pytester.syspathinsert(Path(__file__).parent)
    mutants = importlib.import_module("notification_mutants")
    assert_caught(pytester, NotificationConformance, getattr(mutants, mutant), test)
