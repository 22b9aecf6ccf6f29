"""What a user would write today for the demo's sweep: Ray Tune with a process for each trial, transformers and PEFT.

``python -m tests.benchmarks.ray_tune_peft SWEEP.yaml OUT.json``: the planned points of the sweep, trained on the same
rows for the same steps, validated at the same steps, each evaluated with transformers' ``generate`` on the same items.
Early stopping is Ray's own ASHA with the sweep's settings, where it has any. A trial's seconds of training hold its
validations; those of a trial that was stopped are not told.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def train(space: dict[str, Any]) -> None:
    """One trial, in a process of its own."""
    config = space["point"]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch

    torch.set_num_threads(1)
    from peft import PeftModel
    from ray import tune
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from launchers.evaluation import items_of, scored
    from recipes.engines.packed.rows import Order, Rows
    from recipes.generation import Model
    from recipes.schema import Recipe
    from tests.peers import PeftTrial

    recipe = Recipe.model_validate(config["settings"])
    tokenizer = AutoTokenizer.from_pretrained(config["base"], padding_side="left")
    trial = PeftTrial(AutoModelForCausalLM.from_pretrained(config["base"], dtype=torch.float32), recipe)
    rows, validation = Rows(Path(config["train"]), tokenizer), Rows(Path(config["validation"]), tokenizer)
    order = Order(len(rows), recipe.train.batch_size, recipe.train.seed)
    training, trained = time.time(), 0.0
    for step in range(recipe.train.max_steps):
        loss = trial.step([rows[place] for place in order.rows_of(step)])
        last = step + 1 == recipe.train.max_steps
        if (step + 1) % recipe.train.validate_every == 0 or last:
            report = {"step": step + 1, "train/loss": loss, "val/loss": trial.loss(list(validation))}
            folder = Path(config["folder"]) / "adapter"
            trial.model.save_pretrained(folder)
            if last:
                began = time.time()
                trained = began - training
                assert isinstance(trial.model, PeftModel)
                trial.model.eval()
                job = config["evaluation"]
                items = items_of(job)
                model = Model(trial.model, tokenizer, job.max_new_tokens, job.batch_size)
                answers = model.answer([item.messages for item in items])
                report |= scored(job, items, answers, time.time() - began)["metrics"]
                report |= {"s/training": trained, "s/evaluation": time.time() - began}
            tune.report(report)


def main() -> None:
    """Run the sweep and write what each trial came to, and the seconds that it took."""
    began = time.time()
    import dataclasses

    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    from launchers.arms import Arms
    from launchers.build import build
    from launchers.run_folder import job_fields, prepare
    from sweeps.design_points import planned_points
    from tracking.ledger import Ledger

    built = build(Path(sys.argv[1]))
    out, sweep = Path(sys.argv[2]), built.sweep
    folder = out.parent / "peer"
    folder.mkdir()
    with Ledger(folder) as ledger:
        paths = prepare(built, ledger)
        arms = Arms(built, ledger, paths)
        base = arms.job("base", "dev")
    configs = []
    for trial in planned_points(sweep, most=sweep.spec.search.num_trials).trials:
        place = folder / "trials" / trial.id
        place.mkdir(parents=True)
        evaluation = dataclasses.replace(base, arm=trial.id, out=str(place / "items.jsonl"))
        configs.append({**job_fields(built, paths, place, trial.settings), "evaluation": evaluation, "trial": trial.id})
    ray.init(num_cpus=len(os.sched_getaffinity(0)), include_dashboard=False, log_to_driver=False)
    early = sweep.spec.early_stopping
    steps = int(sweep.settings["train"]["max_steps"])
    scheduler = (
        ASHAScheduler(
            time_attr="step",
            metric="val/loss",
            mode="min",
            max_t=steps + 1,
            grace_period=max(1, round(early.grace * steps)),
            reduction_factor=early.reduction,
        )
        if early
        else None
    )
    results = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={"point": tune.grid_search(configs)},
        tune_config=tune.TuneConfig(scheduler=scheduler),
        run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0),
    ).fit()
    told = {
        result.config["point"]["trial"]: {
            name: value for name, value in (result.metrics or {}).items() if "/" in name or name == "step"
        }
        for result in results
    }
    out.write_text(json.dumps({"seconds": time.time() - began, "trials": told}))
    ray.shutdown()


if __name__ == "__main__":
    main()
