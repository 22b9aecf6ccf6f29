"""What a sweep will need after hours of training, asked for in the seconds before it starts."""

from launchers import home
from launchers.arms import answer_schema
from launchers.build import Built
from launchers.evaluation import item_of
from recipes.hub import check_access
from recipes.schema import Base


def preflight(built: Built) -> None:
    """Check the base on the hub, the judge, and the metrics; train and load nothing.

    Raises:
        InvalidInput: The base may not be read, or a metric cannot score a right answer of the data.
        ServiceUnreachable: The hub or the judge does not answer.
    """
    check_access(Base.model_validate(built.sweep.settings["base"]), built.base_dir)
    evaluate = built.sweep.spec.evaluate
    if evaluate.metrics:
        from tracking.meters.rehearsal import rehearse

        rows = built.rows.rows["dev"] or built.rows.rows["train"]
        items = [item_of(row, number) for number, row in enumerate(rows)]
        rehearse(evaluate.metrics, built.base_dir, answer_schema(built), items)
    if evaluate.judge is not None:
        from tracking.meters.judge import judge_of

        judge_of(evaluate.judge.model_dump(mode="json"), home.cache_folder() / "judge").probe()
