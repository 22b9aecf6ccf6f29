"""What a user can get wrong, as one list: ``test_errors.py`` provokes each case, and ``docs/errors.md`` is made of it.

``python -m tests.launchers.bad_cases`` writes the page anew.
"""

from tests.launchers.bad_data import SPLITS
from tests.launchers.bad_gates import GATES
from tests.launchers.bad_incumbent import INCUMBENT
from tests.launchers.bad_inputs import BASE, DATA, RECIPE
from tests.launchers.bad_judges import JUDGES
from tests.launchers.bad_latency import LATENCY
from tests.launchers.bad_pairs import PAIRS_AND_LOGS
from tests.launchers.bad_preferences import PREFERENCES
from tests.launchers.bad_prices import PRICES
from tests.launchers.bad_retrieval import RETRIEVAL
from tests.launchers.bad_runs import EVALUATION, HOME, RUNNING
from tests.launchers.bad_serving import SERVING
from tests.launchers.bad_stages import STAGES
from tests.launchers.bad_starts import STARTS
from tests.launchers.bad_storage import BUNDLES, MLFLOW, STORAGE
from tests.launchers.bad_yaml import FILE, SPACE
from tests.launchers.running import ROOT
from tests.launchers.stage import Case

PAGE = ROOT / "docs" / "errors.md"

SECTIONS: dict[str, tuple[Case, ...]] = {
    "The sweep's YAML": FILE,
    "The search space": SPACE,
    "The data": DATA,
    "Preference pairs, chat logs, synthetic rows": PAIRS_AND_LOGS,
    "Checking and splitting data": SPLITS,
    "The base model": BASE,
    "Recipe and pools": RECIPE,
    "Adapters to start from": STARTS,
    "Stages": STAGES,
    "Preferences": PREFERENCES,
    "Evaluation and champion": EVALUATION,
    "The judge": JUDGES,
    "Gates and planted defects": GATES,
    "Catalogue and retrieval": RETRIEVAL,
    "The incumbent": INCUMBENT,
    "Prices and traffic": PRICES,
    "Latency": LATENCY,
    "Object storage and MLflow": (*STORAGE, *MLFLOW),
    "Bundles": BUNDLES,
    "Serving": SERVING,
    "While a sweep runs": RUNNING,
    "Podium's home and the commands": HOME,
}
CASES = [case for section in SECTIONS.values() for case in section]

_HEAD = """\
# Errors

What can be wrong with what you give to Podium, what it then says, and the way out.

- A message comes before anything starts, with everything that is wrong at once, and nothing is lost by it.
  `podium plan` finds what can be found by reading; what must be asked for (the hub, the judge, the disk, the cluster)
  `podium submit` asks first.
- Before the message stands where the mistake is: the line of the file, or the `key=value` of the command line. The way
  out stands after it in parentheses.
- Exit code 2 means that the input cannot be used, 5 that a service cannot be reached;
  [here](cli.md#exit-codes) are all.
- In this page `…` is the folder of the sweep, and a word in `< >` stands for an address, a place or a number.

The page is made of the list of cases that the tests go through: `python -m tests.launchers.bad_cases` writes it.
"""


def page() -> str:
    """``docs/errors.md``."""
    lines = [_HEAD.rstrip()]
    for title, members in SECTIONS.items():
        lines += ["", f"## {title}", "", "| what went wrong | the message | exit code | way out |", "|-|-|-:|-|"]
        lines += [
            f"| {case.what} | {_cell(case.message)} | {case.code} | {_cell(case.way_out) or 'as it says'} |"
            for case in members
        ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    shown = text.replace("{here}", "…").replace("|", "\\|")
    for name in ("hub", "judge", "incumbent", "port", "next", "disk", "root", "storage", "mlflow"):
        shown = shown.replace(f"{{{name}}}", f"<{name}>")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`" if shown else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
