"""What a sweep will need after hours of training, asked for in the seconds before it starts."""

from launchers import home
from launchers.arms import answer_schema
from launchers.build import Built
from launchers.evaluation import item_of
from recipes.hub import check_access
from recipes.schema import Recipe


def preflight(built: Built) -> None:
    """Check the base on the hub, the incumbent, the judge, the metrics and the pipeline; train nothing.

    Raises:
        InvalidInput: The base may not be read, or a metric, a gate or a defect cannot take a right answer of the data.
        ServiceUnreachable: The hub, the incumbent or the judge does not answer.
    """
    recipe = Recipe.model_validate(built.sweep.settings)
    check_access(recipe.base, built.base_dir)
    if built.incumbent is not None:
        built.incumbent.check(recipe.generate.max_new_tokens, answer_schema(built))
    evaluate = built.sweep.spec.evaluate
    if evaluate.metrics or evaluate.gates or evaluate.own_defects:
        from tracking.meters.rehearsal import rehearse, rehearse_defects, rehearse_gates

        rows = built.rows.rows["dev"] or built.rows.rows["train"]
        items = [item_of(row, number) for number, row in enumerate(rows)]
        rehearse(evaluate.metrics, built.base_dir, answer_schema(built), items)
        rehearse_gates(evaluate.gates, built.base_dir, answer_schema(built), evaluate.forbidden, items)
        rehearse_defects(evaluate.own_defects, built.base_dir, items)
    if evaluate.pipeline is not None:
        from tracking.meters.retrieval.rehearsal import rehearse_pipeline

        judged = [item_of(row, at) for split in ("dev", "challenge") for at, row in enumerate(built.rows.rows[split])]
        rehearse_pipeline(evaluate.pipeline, built.base_dir, home.cache_folder(), judged)
    if evaluate.judge is not None:
        from tracking.meters.judge import judge_of

        judge_of(evaluate.judge.model_dump(mode="json"), home.cache_folder() / "judge").probe()
