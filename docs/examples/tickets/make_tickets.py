"""Writes tickets.jsonl: what tenants write to the caretaker of their house, each ticket with its queue and priority.

    python make_tickets.py

The same 480 rows every time, put together from parts. What is wrong names the queue (water, power, key or glass), and
what the tenant says about the time names the priority (today or weekend). A tenant always greets in the same way.
"""

import json
import random
from pathlib import Path

NUM_TICKETS = 480
NUM_TENANTS = 120

PROBLEMS = {
    "water": (
        "there is no warm water in the {room}",
        "the water in the {room} is black",
        "water comes from the {room} above me",
        "I have no water since the morning",
        "the spa has no water",
        "the towels in the {room} will not dry",
        "my feet are not dry in the {room}",
        "the kettle in the {room} has nothing in it",
    ),
    "power": (
        "the lamps in the {room} have no power",
        "there is no power in the {room}",
        "the power goes when I make tea",
        "my stove has no power",
        "the lamps in the {room} are black",
        "the speakers in the {room} are silent",
        "my headphones will not recharge in the {room}",
        "my stove is not warm",
    ),
    "key": (
        "I need a new key to the {room}",
        "my key to the {room} is gone",
        "my sister has my key",
        "the key to the {room} is not on my desk",
        "I am outside the {room} and can not come in",
        "my brother is outside and can not come in",
        "my guest needs to come in to the {room}",
        "a friend goes home with my key",
    ),
    "glass": (
        "the glass in the {room} is gone",
        "there is glass on the floor of the {room}",
        "a friend has run into the glass of the {room}",
        "my lamp went into the glass of the {room}",
        "the rain comes into the {room} where the glass was",
        "the {room} has no glass",
        "the winter comes into the {room} from outside",
        "a bike goes through the glass",
    ),
}
TIMES = {
    "today": (
        "I need help today.",
        "Please come today.",
        "A guest is here this evening.",
        "I have a party this evening.",
        "Please do it this morning.",
        "It is for a wedding today.",
    ),
    "weekend": (
        "The weekend is better for me.",
        "Any day until the weekend.",
        "Please come at the weekend.",
        "I am home on the weekend.",
        "I have a long trip ahead.",
        "There is a holiday ahead.",
    ),
}
ROOMS = ("bedroom", "office", "gym", "garden", "apartment", "bike room", "reading room", "guest room")
GREETINGS = ("Hello,", "Hello, can you help me?", "Good morning,", "Please help.", "")


def tickets() -> list[dict[str, str]]:
    """All rows, no two with the same text."""
    rng = random.Random(0)
    greeting = {f"tenant-{number:03}": rng.choice(GREETINGS) for number in range(1, NUM_TENANTS + 1)}
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < NUM_TICKETS:
        tenant = rng.choice(list(greeting))
        queue, priority = rng.choice(list(PROBLEMS)), rng.choice(list(TIMES))
        problem = rng.choice(PROBLEMS[queue]).format(room=rng.choice(ROOMS))
        sentences = [f"{problem[0].upper()}{problem[1:]}.", rng.choice(TIMES[priority])]
        if rng.random() < 0.3:
            sentences.reverse()
        text = " ".join([greeting[tenant], *sentences]).strip()
        rows.setdefault(text, {"prompt": text, "completion": f"{queue}, {priority}", "tenant": tenant})
    return list(rows.values())


if __name__ == "__main__":
    written = tickets()
    Path("tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
    print(f"tickets.jsonl: {len(written)} tickets")
