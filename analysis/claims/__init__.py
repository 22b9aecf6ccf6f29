"""Claims: figures that carry what they are worth, and a linter of what is told with them."""

from analysis.claims.markdown import check_markdown
from analysis.claims.model import AnyClaim, Claim, Limit, Relative, Share, facts, from_facts, mark
from analysis.claims.page import check_page, quoted
from analysis.claims.rules import Rule, Violation, check, limit, relative

__all__ = [
    "AnyClaim",
    "Claim",
    "Limit",
    "Relative",
    "Rule",
    "Share",
    "Violation",
    "check",
    "check_markdown",
    "check_page",
    "facts",
    "from_facts",
    "limit",
    "mark",
    "quoted",
    "relative",
]
