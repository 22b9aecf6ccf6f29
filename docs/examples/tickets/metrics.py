"""Scores a sorted ticket from 0 to 5: a ticket in the wrong queue is worse than one with the wrong priority."""


def triage(row: dict, answer: str) -> dict[str, float]:
    queue, priority = row["reference"].split(", ")
    given = [part.strip() for part in answer.split(",")]
    right_queue = given[0] == queue
    right_priority = len(given) == 2 and given[1] == priority
    return {
        "triage": float(right_queue and right_priority),
        "queue": float(right_queue),
        "priority": float(right_priority),
        "score": 3.0 * right_queue + 2.0 * right_priority,
    }
