"""Where run folders lie, and the names by which commands know them."""

from pathlib import Path

import pytest

from tracking.folders import folder_of, name_of


@pytest.mark.parametrize("name", ["shoes", "shoes/sft", "stages", "stages/stages"])
def test_a_run_folder_has_the_name_that_finds_it(name: str, tmp_path: Path) -> None:
    assert name_of(folder_of(tmp_path, name)) == name
