"""Invariants of what is published: the ledger, the fits behind it, the anchors."""

from __future__ import annotations

from irt_assets.calibration.origin import hash_of_anchors
from irt_assets.invariants.invariant import Found, InvariantContext, NotTested, Violation, invariant


@invariant(
    kind="items",
    protects="Every published number can be traced to a converged fit on the scale, its answers and its code.",
    fix="Run `irt lineage ITEM`; materialise the month again, and propose the item again from the fit that converged.",
)
def published_parameters_come_from_sound_fits(look: InvariantContext) -> Found:
    rows = look.connection.execute(
        """SELECT p.item_id, coalesce(p.month, ''), p.fit_id, p.rule, p.data_hash, p.code_version,
                  m.fit_id IS NOT NULL, m.converged, m.model_spec->'linking_constants'->>'slope', m.data_hash
           FROM item_parameter_publication p LEFT JOIN mirt_fit_meta m USING (fit_id)
           ORDER BY p.publication_id"""
    ).fetchall()
    if not rows:
        yield NotTested("nothing is published yet")
    for item, month, fit_id, rule, data_hash, code, there, converged, slope, fitted_hash in rows:
        problems = []
        if fit_id is None:
            if rule not in ("origin", "undo"):
                problems.append(f"published by the rule '{rule}' without a fit")
        elif not there:
            problems.append(f"fit {fit_id} is not there")
        else:
            problems += [] if converged else [f"fit {fit_id} did not converge"]
            problems += [] if slope is not None else [f"fit {fit_id} is not linked"]
            problems += [] if data_hash else ["no hash of the answers"]
            problems += [] if not data_hash or data_hash == fitted_hash else ["not the answers that the fit has seen"]
        problems += [] if code else ["no version of the code"]
        if problems:
            yield Violation(item, "; ".join(problems), "a converged, linked fit, its answers and its code", month)


@invariant(
    kind="items",
    protects="Scores are computed with parameters that can score: a > 0, b in reach, errors finite and small.",
    fix="Look at the item's fits with `irt lineage ITEM`, check its key, and decide on another value for it.",
)
def published_items_can_be_scored_with(look: InvariantContext) -> Found:
    rows = look.connection.execute(
        """SELECT scale_id, item_id, a, b, a_se, b_se FROM item_parameter_current ORDER BY scale_id, item_id"""
    ).fetchall()
    if not rows:
        yield NotTested("nothing is published yet")
    for scale_id, item, a, b, a_se, b_se in rows:
        rules = look.scales[scale_id].rules
        problems = []
        if not 0 < a < float("inf"):
            problems.append(f"a = {a:.3g}")
        if not abs(b) <= rules.max_abs_b:
            problems.append(f"b = {b:.3g}")
        if a_se is None or not a_se < float("inf"):
            problems.append(f"SE(a) = {a_se}")
        if b_se is None or not b_se <= rules.max_b_se:
            problems.append(f"SE(b) = {b_se if b_se is None else format(b_se, '.3g')}")
        if problems:
            limits = f"a > 0, |b| ≤ {rules.max_abs_b:g}, SE(b) ≤ {rules.max_b_se:g}, finite errors"
            yield Violation(item, ", ".join(problems), limits)


@invariant(
    kind="items",
    protects="At every time one set of parameters is in force, and no value changes without a person's decision.",
    fix="Find who wrote to item_parameter_publication; append a publication with the decision that justifies it.",
)
def one_set_is_in_force_and_changes_are_decided(look: InvariantContext) -> Found:
    rows = look.connection.execute(
        """SELECT p.item_id, coalesce(p.month, ''), p.rule, p.effective_from, p.replaces,
                  lag(p.publication_id) OVER mine, lag(p.effective_from) OVER mine,
                  EXISTS (SELECT 1 FROM release_decision d
                          WHERE d.scale_id = p.scale_id AND d.item_id = p.item_id
                            AND d.effective_from = p.effective_from
                            AND CASE WHEN p.rule = 'undo' THEN d.decision = 'undo'
                                     ELSE d.decision = 'accept' AND d.fit_id = p.fit_id END),
                  EXISTS (SELECT 1 FROM item_parameter_publication r
                          WHERE r.publication_id = p.replaces AND r.scale_id = p.scale_id AND r.item_id = p.item_id),
                  p.a, p.b, p.c, lag(p.rule) OVER mine
           FROM item_parameter_publication p
           WINDOW mine AS (PARTITION BY p.scale_id, p.item_id ORDER BY p.publication_id)
           ORDER BY p.publication_id"""
    ).fetchall()
    if not rows:
        yield NotTested("nothing is published yet")
    standing: dict[str, list[tuple[float, float, float]]] = {}
    for item, month, rule, since, replaces, earlier, earlier_since, decided, replaced, *values, before in rows:
        history = standing.setdefault(item, [])
        if rule == "undo":
            del history[-1:]
        else:
            history.append(tuple(values))
        if earlier is None:
            if rule in ("decision", "undo") and not decided:
                yield Violation(item, "published by a decision that is not recorded", "an accepted decision", month)
        elif rule not in ("decision", "undo"):
            yield Violation(item, f"published again by the rule '{rule}'", "a decision for every change", month)
        elif not decided:
            yield Violation(item, "changed without a recorded decision", "a decision of that date", month)
        elif replaces is None or not replaced:
            yield Violation(item, "does not say which publication it replaces", f"publication {earlier}", month)
        elif rule == "undo" and history[-1:] != [tuple(values)]:
            yield Violation(item, "an undo published other values than those before", "the values before", month)
        elif since == earlier_since and "undo" not in (rule, before):
            yield Violation(item, f"two values in force from {since:%Y-%m-%d} on", "one value at every time", month)


@invariant(
    kind="scales",
    protects="The scale stays where it was frozen: no anchor changes its value or leaves the set silently.",
    fix="Find who wrote to anchor_set and restore the frozen values; drop anchors by `irt release drop-anchors`; "
    "another model freezes them again: `irt scale set model=…`.",
)
def anchors_change_by_decision_alone(look: InvariantContext) -> Found:
    rows = look.connection.execute(
        """SELECT scale_id, version, item_id, a, b, c, a_se, b_se, cov_ab, anchor_hash FROM anchor_set
           ORDER BY scale_id, version, item_id"""
    ).fetchall()
    frozen_again = set(
        look.connection.execute(
            """SELECT DISTINCT s.scale_id, s.version FROM anchor_set s
               JOIN scale_decision d ON (d.scale_id, d.effective_from, d.decided_at)
                                      = (s.scale_id, s.effective_from, s.frozen_at)
               WHERE d.subject = 'model'"""
        ).fetchall()
    )
    if not rows:
        yield NotTested("no scale has frozen anchors yet: `irt scale init`")
    dropped = {
        (scale_id, item)
        for scale_id, item in look.connection.execute(
            "SELECT scale_id, item_id FROM release_decision WHERE decision = 'drop_anchor'"
        )
    }
    sets: dict[tuple[str, int], dict[str, list[float]]] = {}
    hashes: dict[tuple[str, int], set[str]] = {}
    for scale_id, version, item, *values, digest in rows:
        sets.setdefault((scale_id, version), {})[item] = values
        hashes.setdefault((scale_id, version), set()).add(digest)
    for (scale_id, version), anchors in sets.items():
        if hashes[scale_id, version] != {hash_of_anchors(anchors)}:
            yield Violation(scale_id, f"version {version} is not what was frozen", "the hash it was frozen under")
        if (scale_id, version) in frozen_again:
            continue  # by the decision on the model that was made with it
        before = sets.get((scale_id, version - 1), anchors)
        silently = sorted(i for i in before.keys() - anchors.keys() if (scale_id, i) not in dropped)
        changed = sorted(i for i in anchors if before.get(i) != anchors[i])
        if silently or changed:
            observed = f"version {version}: {', '.join([*silently, *changed][:5])} left or changed without a decision"
            yield Violation(scale_id, observed, "anchors leave by decision and keep their values")


@invariant(
    kind="items",
    protects="Items at a bound, unidentified, of negative discrimination or zero variance are named, never published.",
    fix="Materialise the month again; an item published from such an estimate needs a decision on another value.",
)
def items_without_a_sound_estimate_are_held_back(look: InvariantContext) -> Found:
    rows = look.connection.execute(
        """SELECT i.item_id, to_char(m.window_start AT TIME ZONE 'UTC', 'YYYY-MM'), i.flags::text,
                  coalesce(s.held ? i.item_id, false),
                  EXISTS (SELECT 1 FROM item_parameter_publication p
                          WHERE p.fit_id = i.fit_id AND p.item_id = i.item_id)
           FROM mirt_item_params i JOIN mirt_fit_meta m USING (fit_id)
           JOIN publication_step s ON s.fit_id = i.fit_id AND s.state = 'done'
           WHERE i.flags <> '[]'::jsonb AND m.superseded_at IS NULL AND m.kind = 'monthly'
           ORDER BY 2, 1"""
    ).fetchall()
    if not any(look.settled.values()):
        yield NotTested("no month has been taken to the ledger yet")
    for item, month, flags, held, published in rows:
        if published:
            yield Violation(item, f"published although its estimate is {flags}", "held back", month)
        elif not held:
            yield Violation(item, f"its estimate is {flags}, without a report", "held back, with the reason", month)


@invariant(
    kind="scales",
    protects="The anchors keep their relation to each other, so that a month's scale is the bank's scale.",
    fix="Look at the plot of the anchors on linked_item_parameters; a drifted anchor needs a person's decision.",
    alerted_by_checks=True,
)
def anchors_agree(look: InvariantContext) -> Found:
    rows = look.connection.execute(
        """SELECT scale_id, to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM'), engine,
                  model_spec->'linking_constants'
           FROM mirt_fit_meta WHERE kind = 'monthly' AND superseded_at IS NULL ORDER BY 2, 1"""
    ).fetchall()
    tested = set()
    for scale_id, month, engine, constants in rows:
        scale = look.scales.get(scale_id)
        if scale is None or engine != scale.engine or constants.get("q_p") is None:
            continue
        tested.add(scale_id)
        if constants["q_p"] < scale.rules.anchor_q_alpha:
            dropped = ", ".join(sorted(constants["anchors_dropped"])[:10]) or "none"
            observed = (
                f"Q = {constants['q']:.1f} on {constants['q_df']} df, p = {constants['q_p']:.2g}; dropped: {dropped}"
            )
            yield Violation(scale_id, observed, f"p ≥ {scale.rules.anchor_q_alpha:g}", month)
    for scale_id in sorted(set(look.scales) - tested):
        yield NotTested(f"no month of scale {scale_id} is linked by anchors yet", subject=scale_id)


@invariant(
    kind="items",
    protects="The frozen anchors are still in the bank, on the scale that they hold.",
    fix="Bring the item back with `irt import questions`, or freeze a new version of the anchor set.",
)
def anchors_are_still_in_the_bank(look: InvariantContext) -> Found:
    rows = look.connection.execute(
        """SELECT s.scale_id, s.item_id, q.scale_id
           FROM anchor_set s JOIN calibration_scale c ON c.scale_id = s.scale_id AND c.anchor_version = s.version
           LEFT JOIN question q USING (item_id) ORDER BY 1, 2"""
    ).fetchall()
    if not rows:
        yield NotTested("no scale has frozen anchors yet: `irt scale init`")
    for scale_id, item, there in rows:
        if there != scale_id:
            observed = "not in the bank" if there is None else f"on scale {there}"
            yield Violation(item, observed, f"on scale {scale_id}")
