"""`irt scale list` and `irt scale show` print scales, and `irt scale set` records who changed a rule."""

from __future__ import annotations

from irt_assets.common.partitions import Month
from irt_assets.ledger.overview import decisions_since
from irt_assets.scales.scale import change_rules
from irt_assets.scales.scale_decisions import ACCEPTED, record_decisions
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import SCALE, add_items, call, run_sql
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import IrtOf
from tests.helpers.waiting_decision import FEB, JAN, bank

__all__ = ["bank"]  # a fixture


def test_scales_are_listed_and_shown_with_who_changed_a_rule(settings: Settings, bank: Database, irt: IrtOf) -> None:
    typed = irt(settings)
    add_items(bank, {"r1": None}, scale_id="reading")
    signed = ("--by", "Kim", "--reason", "short tests", "--yes")
    assert typed("scale", "set", "max_rmsd=0.08", *signed).code == 0
    assert "max_rmsd 0.08 from" in typed("scale", "decisions").out

    listed = {line.split()[0]: line.split() for line in typed("scale", "list").out.splitlines()}
    assert listed[SCALE][-5:-2] == ["6", "5", "3"], "items, in use, anchors"
    assert listed["reading"][2:6] == ["none", "yet", "1", "0"]
    shown = typed("scale", "show", SCALE).out
    assert not missing_sentences(shown, "A 2PL with 5 of six items in use.", "3, with a mean b of 0.00", "Kim")
    found = typed("scale", "show", SCALE, "--json").json
    rule = found["rules"]["max_rmsd"]
    assert (rule["value"], rule["default"], rule["decision"]["decided_by"]) == (0.08, 0.05, "Kim")
    assert found["anchors"] == {"K1": -1.0, "K2": 0.0, "K3": 1.0}
    assert "No origin yet" in " ".join(typed("scale", "show", "reading").out.split())


def test_unknown_scale_is_refused_with_the_names_of_the_scales(settings: Settings, bank: Database, irt: IrtOf) -> None:
    refused = irt(settings)("scale", "show", "nowhere")
    assert (refused.code, f"there is no scale nowhere; there are: {SCALE}" in refused.err) == (2, True)


def test_held_month_becomes_stale_by_a_decision_on_the_model_and_not_by_one_on_a_rule(bank: Database) -> None:
    held = "UPDATE publication_step SET state = 'held', stepped_at = now() - interval '1 hour' WHERE month = %s"
    run_sql(bank, held, (FEB,))
    run_sql(bank, "UPDATE mirt_fit_meta SET anchor_hash = (SELECT min(anchor_hash) FROM anchor_set)")
    change_rules(bank, SCALE, {"max_rmsd": 0.08}, by="Kim", reason="short tests")
    assert call(bank, decisions_since, [JAN, FEB]) == {}
    call(bank, record_decisions, SCALE, {"guessing": ACCEPTED}, Month(JAN).start, by="Kim", reason="few guess")
    assert call(bank, decisions_since, [JAN, FEB]) == {(FEB, SCALE): "guessing was decided on since"}
