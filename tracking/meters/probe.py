"""Asking at the start whether a server keeps to a JSON schema: a judge's, or one whose answers are guided."""

import json
import secrets
import urllib.error
from typing import Any

from sweeps.errors import ServiceUnreachable
from tracking.meters.chat import Endpoint, body_of, names_the_form


def probe(endpoint: Endpoint, model: str, who: str, key: str) -> str | None:
    """Ask for a word that only a server that keeps to the schema can know; return what it calls its model.

    The word is drawn anew and stands in the schema alone, so that neither a server that ignores ``response_format``
    nor one that repeats itself can say it.

    Args:
        endpoint: Where it is asked.
        model: Its name there.
        who: Is asked, in messages.
        key: Of the sweep's YAML that sets its time-out.

    Raises:
        ServiceUnreachable: No answer within ``timeout_s``, the key, the model or the schema is refused, or ignored.
    """
    word = f"w{secrets.token_hex(6)}"
    schema = {
        "type": "object",
        "properties": {"result": {"type": "string", "enum": [word]}},
        "required": ["result"],
        "additionalProperties": False,
    }
    # No limit on tokens: some servers know it by another name only, and the form ends the answer by itself.
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Give an integer from 0 to 5 as result."}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "probe", "schema": schema, "strict": True}},
    }
    at = f"{who} at {endpoint.url}"
    with endpoint.reaching(who, key):
        try:
            reply = endpoint.post_once(body, endpoint.timeout_s)
        except urllib.error.HTTPError as error:
            text = body_of(error)
            if error.code == 400 and names_the_form(text):
                raise ServiceUnreachable(f"{at} refuses response_format, {endpoint.no_form} ({text})") from None
            raise ServiceUnreachable(f"{at} answers {error.code} {error.reason}: {text}") from None
        content, served = reply["choices"][0]["message"]["content"], reply.get("model")
    if not _is_the_word(content, word):
        shown = " ".join(str(content).split())[:80]
        raise ServiceUnreachable(f"{at} ignores response_format (it replied {shown!r}), {endpoint.no_form}")
    return served if isinstance(served, str) and served else None


def _is_the_word(content: Any, word: str) -> bool:
    try:
        return bool(json.loads(content) == {"result": word})
    except (ValueError, TypeError, RecursionError):
        return False
