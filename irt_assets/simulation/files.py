"""Files of a simulated log in the platform's own import format, with the truth next to them."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from irt_assets.simulation.scenario import OPTIONS, Bank, Scenario
from irt_assets.simulation.truth import Learners, SimulatedLog, Truth

SCALE_ID = Scenario.scale_id
ROW_GROUP = 100_000
KOREAN_TOPICS = {
    "algebra": "대수",
    "data": "자료",
    "functions": "함수",
    "geometry": "기하",
    "number": "수",
    "everyday": "일상어",
    "technical": "전문어",
}


@dataclass(frozen=True)
class SimulatedFiles:
    """Paths of the files. `late_attempts` contains the answers that had not reached the database by `now`."""

    questions: Path
    learners: Path
    attempts: Path
    late_attempts: Path
    truth: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "SimulatedFiles":
        return cls(
            questions=folder / "questions.jsonl",
            learners=folder / "learners.jsonl",
            attempts=folder / "attempts.parquet",
            late_attempts=folder / "late_attempts.parquet",
            truth=folder / "truth.json",
        )


def write(
    log: SimulatedLog, truth: Truth, folder: Path, progress: Callable[[str], None] | None = None
) -> SimulatedFiles:
    """Write all files into `folder`, which is created if it is missing. Existing files are overwritten.

    `progress` is called with the name of each file that has been written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = SimulatedFiles.in_folder(folder)
    steps: tuple[tuple[Path, Callable[[Path], object]], ...] = (
        (files.questions, lambda path: _write_lines(path, _questions(truth.bank))),
        (files.learners, lambda path: _write_lines(path, _learners(truth.learners, truth.bank.scale_id))),
        (files.attempts, lambda path: _write_attempts(path, log, log.arrived)),
        (files.late_attempts, lambda path: _write_attempts(path, log, ~log.arrived)),
        (files.truth, lambda path: path.write_text(json.dumps(truth.as_dict(), ensure_ascii=False), "utf-8")),
    )
    for path, step in steps:
        step(path)
        if progress is not None:
            progress(path.name)
    return files


def attempts_table(log: SimulatedLog, rows: npt.NDArray[np.bool_]) -> pa.Table:
    """The attempts of `rows`, shape (R,), with the columns of `response_log`, except the revision, which is 0, and
    except the score if all items are scored 0 and 1."""

    def pick(labels: Iterable[str], index: npt.NDArray[Any]) -> pa.Array:
        """Labels by index; null if the index is negative."""
        chosen = index[rows]
        return pa.array(list(labels), pa.string()).take(pa.array(chosen, mask=chosen < 0))

    def time(values: npt.NDArray[np.datetime64]) -> pa.Array:
        return pa.array(values[rows].astype("datetime64[us]"), pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))

    def number(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
        chosen = values[rows]
        return pa.array(chosen, mask=chosen < 0).cast(kind)

    scored = log.max_scores > 1
    points = np.where(scored[log.item], log.points, np.int8(-1))
    session, position = pick(log.session_ids, log.session), pa.array(log.position[rows], pa.int32())
    return pa.table(
        {
            "attempt_id": pc.binary_join_element_wise(session, position.cast(pa.string()), "-"),
            "user_id": pick(log.user_ids, log.person),
            "item_id": pick(log.item_ids, log.item),
            "session_id": session,
            "form_id": pick(log.form_ids, log.form),
            "position": position,
            "started_at": time(log.started_at),
            "completed_at": time(log.completed_at),
            "correct": number(log.correct, pa.bool_()),
        }
        | ({"score": number(points, pa.int16())} if scored.any() else {})
        | {
            "response": pick(OPTIONS, log.response),
            "response_time_ms": number(log.response_time_ms, pa.int64()),
            "hints_used": pa.array(log.hints[rows], pa.int32()),
            "mode": pick(("live", "sandbox"), log.sandbox.astype(np.int8)),
            "recorded_at": time(log.recorded_at),
        }
    )


def _write_attempts(path: Path, log: SimulatedLog, rows: npt.NDArray[np.bool_]) -> None:
    pq.write_table(attempts_table(log, rows), path, compression="zstd", row_group_size=ROW_GROUP)


def _write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _questions(bank: Bank) -> Iterable[dict[str, Any]]:
    for j, item in enumerate(bank.item_ids):
        meta: dict[str, Any] = {"tags": ["anchor"] if bank.anchor[j] else []}
        if korean := KOREAN_TOPICS.get(bank.topics[bank.topic[j]]):
            meta["topic_names"] = {"ko": korean}
        if bank.key[j] >= 0:
            meta |= {"key": OPTIONS[bank.key[j]], "options": list(OPTIONS)}
        if bank.max_scores[j] > 1:
            meta["irt"] = {"max_score": int(bank.max_scores[j])}
        if bank.anchor[j]:
            cov = bank.bank_cov[j]
            meta["irt"] = {
                "a": float(bank.bank_a[j]),
                "b": float(bank.bank_b[j]),
                "c": float(bank.c[j]),
                "a_se": float(np.sqrt(cov[0, 0])),
                "b_se": float(np.sqrt(cov[1, 1])),
                "c_se": 0.0,
                "cov_ab": float(cov[0, 1]),
                "n": bank.bank_n,
                "D": 1.0,
                "model": "3pl" if bank.c[j] > 0 else "2pl",
            }
        yield {
            "item_id": item,
            "scale_id": bank.scale_id,
            "topic_id": bank.topics[bank.topic[j]],
            "testlet_id": None,
            "meta": meta,
        }


def _learners(learners: Learners, scale_id: str) -> Iterable[dict[str, Any]]:
    for i, user in enumerate(learners.user_ids):
        yield {
            "user_id": str(user),
            "attributes": {
                "lang": str(learners.lang[i]),
                "country": str(learners.country[i]),
                "tier": str(learners.tier[i]),
            },
            "is_test": bool(learners.is_test[i]),
            "target_scale_id": scale_id,
            "target_theta": float(learners.target_theta[i]),
        }
