"""Text that rows have in common but that stands after what differs, where no prefix tree can share it.

Prompts are compared message by message: what nearly all rows have at a message's end, in whole lines within it, or, in
messages after the first that differs, at its beginning. :func:`move` puts such text ahead of what differs.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Message = dict[str, str]
Messages = Sequence[Message]
Where = Literal["start", "within", "end", "whole"]

NEARLY_ALL = 0.9  # of the rows; fewer, and it is not the rows' common text
LAST = -2  # the message before the answer


@dataclass(frozen=True)
class ConstantText:
    """Text of nearly all rows that stands after a part that differs.

    Attributes:
        message: The place of its message in the conversation, from 0; -2 is the one before the answer, in
            conversations of unequal length.
        role: Of that message.
        where: At the message's start, within it (whole lines), at its end, or the whole message.
        text: As it is moved.
        share: Of the rows that have it there, from 0 to 1.
        tokens: Its length.
    """

    message: int
    role: str
    where: Where
    text: str
    share: float
    tokens: int


@dataclass(frozen=True)
class Found:
    """Constant texts, and the message to whose front they can be moved (None where all prompts are the same)."""

    front: int | None
    texts: tuple[ConstantText, ...]


def find(conversations: Sequence[Messages], num_tokens: Callable[[str], int], min_tokens: int) -> Found:
    """Find the constant texts of at least so many tokens.

    An assistant's words are never taken, as the loss looks at them. Nor is a whole message that follows an
    assistant's: without it two of its turns would meet.

    Args:
        conversations: Each ends with the answer.
        num_tokens: The length of a text.
        min_tokens: A shorter text is not worth the change.
    """
    places, front_of_unequal = _places(conversations)
    front = None
    found: list[ConstantText] = []
    for place in places:
        if place == LAST and front is None:
            front = front_of_unequal
        messages = [conversation[place] for conversation in conversations]
        roles = {message["role"] for message in messages}
        if "assistant" in roles:
            continue
        contents = [message["content"] for message in messages]
        pieces: list[tuple[Where, str]] = []
        [(commonest, count)] = Counter(contents).most_common(1)
        if count < NEARLY_ALL * len(contents):
            pieces = _pieces(contents, is_first=front is None)
            front = place if front is None else front
        elif front is not None and not _follows_answers(conversations, place):
            pieces = [("whole", commonest)]
        for where, text in pieces:
            share = sum(_without(content, where, text) is not None for content in contents) / len(contents)
            tokens = num_tokens(text.strip())
            if share >= NEARLY_ALL and tokens >= min_tokens:
                found.append(ConstantText(place, " or ".join(sorted(roles)), where, text, share, tokens))
    return Found(front, tuple(found))


def _places(conversations: Sequence[Messages]) -> tuple[list[int], int | None]:
    """The messages of a prompt that can be compared: from the first on, and the last before the answer.

    And, of conversations of unequal length, the message from which on they differ, were it only by their number.
    """
    shortest, longest = min(map(len, conversations)), max(map(len, conversations))
    if shortest == longest:
        return list(range(shortest - 1)), None
    first = shortest + LAST
    is_answer = any(messages[first]["role"] == "assistant" for messages in conversations)
    return [*range(first), LAST], None if is_answer else first


def _follows_answers(conversations: Sequence[Messages], place: int) -> bool:
    return any(message["role"] == "assistant" for messages in conversations for message in messages[:place][-1:])


def move(conversation: Messages, found: Found) -> list[Message]:
    """The conversation with the constant texts that it has moved ahead of what differs.

    One that is built otherwise than those that they were found in stays as it is.
    """
    moved = [dict(message) for message in conversation]
    if found.front is None or not _is_asked(conversation, found.front):
        return moved
    texts: list[str] = []
    for constant in found.texts:
        place = constant.message
        if not _is_asked(conversation, place):
            continue
        content = _without(moved[place]["content"], constant.where, constant.text)
        # A message of which nothing is left goes, but not from between two of the assistant's.
        if content is not None and (content.strip() or not _follows_answers([conversation], place)):
            moved[place]["content"] = content if content.strip() else ""
            texts.append(constant.text.strip())
    if texts:
        moved[found.front]["content"] = "\n".join([*texts, moved[found.front]["content"]])
    return [message for message in moved if message["content"]]


def _is_asked(conversation: Messages, place: int) -> bool:
    """Whether a message stands there, before the answer, and is not the assistant's."""
    return place < len(conversation) - 1 and conversation[place]["role"] != "assistant"


def _pieces(contents: Sequence[str], *, is_first: bool) -> list[tuple[Where, str]]:
    """What messages that differ have in common after what differs, in its order; ahead of it too, but in the first."""
    start = _common_start(contents)
    rests = [content.removeprefix(start) for content in contents]
    end = _whole(_common_start([rest[::-1] for rest in rests]))[::-1]
    pieces: list[tuple[Where, str]] = [("within", text) for text in _common_lines(rests, end)]
    if not is_first:
        pieces.insert(0, ("start", _whole(start)))
    return [(where, text) for where, text in [*pieces, ("end", end)] if text.strip()]


def _whole(start: str) -> str:
    """A common start without the piece of a line that goes on differently; of a word where half would be lost."""
    lines = start[: start.rfind("\n") + 1]
    if 2 * len(lines) >= len(start):
        return lines
    return start[: max(start.rfind(space) for space in " \t\n") + 1]


def _common_start(texts: Sequence[str]) -> str:
    """The longest beginning that nearly all texts have."""
    ordered = sorted(texts)
    # In this order texts that begin alike are neighbours, so what most of them begin with, the middle one does.
    middle = ordered[len(ordered) // 2]
    low, high = 0, len(middle)
    while low < high:
        length = (low + high + 1) // 2
        if sum(text.startswith(middle[:length]) for text in texts) >= NEARLY_ALL * len(texts):
            low = length
        else:
            high = length - 1
    return middle[:low]


def _common_lines(texts: Sequence[str], end: str) -> list[str]:
    """Runs of whole lines that nearly all texts have before their common end."""
    lines = [text.removesuffix(end).split("\n")[1:] for text in texts]  # the first goes on from the common start
    counts = Counter(line for members in lines for line in set(members))
    common = {line for line, count in counts.items() if count >= NEARLY_ALL * len(texts)}
    # Runs are read in the text that has most of them; whether others have them in this order, their share will say.
    fullest = max(lines, key=lambda members: sum(line in common for line in members))
    runs: list[list[str]] = [[]]
    for line in fullest:
        if line in common:
            runs[-1].append(line)
        elif runs[-1]:
            runs.append([])
    return [text for text in ("\n".join(run).strip("\n") for run in runs) if text.strip()]


def _without(content: str, where: Where, text: str) -> str | None:
    """The content without a constant text; None where it does not stand there."""
    if where == "whole":
        return "" if content == text else None
    if where == "start":
        return content.removeprefix(text) if content.startswith(text) else None
    if where == "end":
        return content.removesuffix(text) if content.endswith(text) else None
    before, found, after = f"{content}\n".partition(f"\n{text}\n")
    return f"{before}\n{after}".removesuffix("\n") if found else None
