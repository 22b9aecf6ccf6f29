"""What the shell is offered, asked as the shell asks: through the environment, and in bash by its own function."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.analysis.synthetic import synthetic, trial_id
from tests.launchers.running import PROBE, environment, loaded

PODIUM = str(Path(sys.executable).with_name("podium"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    synthetic(tmp_path, "first")
    synthetic(tmp_path, "second", num_trials=3)
    os.utime(tmp_path / "runs" / "first" / "ledger.jsonl", (0, 0))
    return tmp_path


def bash(home: Path, *words: str) -> list[str]:
    """The offers for the last of these words, as bash's completion gets them."""
    run = subprocess.run(
        [PODIUM],
        env={
            **environment(home),
            "COMP_WORDS": "\n".join(("podium", *words)),
            "COMP_CWORD": str(len(words)),
            "_PODIUM_COMPLETE": "complete_bash",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert run.stderr == ""
    return run.stdout.split()


def zsh(home: Path, line: str) -> str:
    """What zsh is given for a line."""
    run = subprocess.run(
        [PODIUM],
        env={**environment(home), "_TYPER_COMPLETE_ARGS": line, "_PODIUM_COMPLETE": "complete_zsh"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return run.stdout


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (["sta"], ["status"]),
        (["gc", ""], ["second", "first"]),
        (["da"], ["dashboard", "data"]),
        (["data", ""], ["check", "split", "stats", "pairs", "synthesize", "import"]),
        (["data", "stats", "x.yaml", "--ba"], ["--base", "--batch-size"]),
        (["status", "fi"], ["first"]),
        (["doctor", "no"], []),
        (["plan", "x.yaml", "recipe", "=", "tiny"], ["tiny_commerce_dpo", "tiny_commerce_sft"]),
        (["plan", "x.yaml", "recipe", "=", "n"], ["nemotron_nano_8b_dpo", "nemotron_nano_8b_sft"]),
        (["submit", "x.yaml", "search.trials=3", "pools", "=", "[h"], ["[h100]"]),
        (["submit", "x.yaml", "po"], ["pools="]),
        (["export", "second", "--trial", ""], [trial_id(number) for number in range(3)]),
        (["export", "second", "--trial", "01"], [trial_id(1)]),
        (["export", "nowhere", "--trial", ""], []),
        (["try", "shoes", "--sweep", "se"], ["second"]),
        (["status", "-o", ""], ["table", "json", "csv"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_offers_in_bash(home: Path, words: list[str], offers: list[str]) -> None:
    assert bash(home, *words) == offers


def test_offers_in_zsh_say_what_they_are(home: Path) -> None:
    assert '"second":"a sweep"' in zsh(home, "podium status ")
    assert '"pools=[h100]":"a pool"' in zsh(home, "podium plan x.yaml pools=[h")
    assert f'"{trial_id(2)}":"trial 2"' in zsh(home, "podium export second --trial 02")


def test_a_damaged_ledger_and_a_missing_home_offer_nothing_and_say_nothing(home: Path) -> None:
    (home / "runs" / "second" / "ledger.jsonl").write_bytes(
        b'{"event": "trial", \xff\n[]\n{"event": "trial", "t": 1}\n'
    )
    assert bash(home, "export", "second", "--trial", "") == []
    assert bash(home / "none", "status", "") == []


def test_completing_loads_nothing_heavy(home: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROBE.replace('"torch",', '"torch", "pandas", "hydra",')],
        env={
            **environment(home),
            "COMP_WORDS": "podium\nexport\nsecond\n--trial\n",
            "COMP_CWORD": "4",
            "_PODIUM_COMPLETE": "complete_bash",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert trial_id(0) in run.stdout
    assert loaded(run) == []


def test_the_script_that_show_completion_prints_works_in_bash(home: Path) -> None:
    script = (
        'eval "$(podium --show-completion)"; complete -p podium; COMP_WORDS=(podium status se); COMP_CWORD=2; '
        '_podium_completion podium; echo "offers: ${COMPREPLY[*]}"'
    )
    run = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**environment(home), "PATH": f"{Path(PODIUM).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "offers: second" in run.stdout
    assert "-F _podium_completion podium" in run.stdout


def test_install_completion_writes_where_bash_looks(home: Path, tmp_path: Path) -> None:
    user = tmp_path / "user"
    user.mkdir()
    run = subprocess.run(
        ["bash", "--norc", "-c", f"{PODIUM} --install-completion; true"],
        env={**environment(home), "HOME": str(user)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    script = user / ".bash_completions" / "podium.sh"
    assert script.is_file(), run.stdout + run.stderr
    assert str(script) in (user / ".bashrc").read_text()
