"""Write what the site takes from files: tables, figures, numbers in sentences, notebooks, the API.

In: `expected/`, `benchmarks/results/`, manifests, profiles, notebooks, `pyproject.toml`, modules.
Out: fragments in `docs/_generated/`, and `numbers` for sentences. No measured result is typed.
"""

import ast
import re
import shutil
import tomllib
from pathlib import Path

import ladder_tables
import numpy as np
import pandas as pd
import planning_tables
import real_tables
from ladder_tables import with_interval

from helpers.analysis import patients_needed, published_results
from helpers.core import files
from helpers.data import manifests
from helpers.study import notebook_files, profiles, summary_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
WINGS = (
    "core",
    "data",
    "data.first_look",
    "data.tables",
    "data.images",
    "data.synthetic",
    "privacy",
    "training",
    "analysis",
    "figures",
    "study",
)
LESSONS = sorted((ROOT / "course" / "solutions").glob("*.ipynb"))
PARAMETER_COLUMNS = ["parameter", "default", "meaning", "values", "unit", "paper"]


def stored(name: str) -> dict:
    """Return what a benchmark measured."""
    return files.read_json(RESULTS / f"{name}.json", "Run the benchmark of that name.")


def as_markdown(table: pd.DataFrame, digits: int = 3) -> str:
    """Return a table in Markdown: floats rounded, what is missing left blank, bars kept as text."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return "" if pd.isna(value) else f"{round(value, digits):g}"
        return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")

    head = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + "---|" * table.shape[1]]
    rows = ["| " + " | ".join(map(text, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join(head + rows) + "\n"


# ---- results


def study_table(name: str) -> str:
    """Return the summary of a study of `expected/`."""
    return (
        summary_table.markdown(
            summary_table.summary(pd.read_csv(ROOT / "expected" / f"{name}.csv"))
        )
        + "\n"
    )


def ct_ladder() -> str:
    """Return what each way of training reached on CT."""
    levels = stored("ct_ladder")["levels"]
    table = ladder_tables.ladder_table(stored("ct_ladder"))
    kept = [with_interval(level.get("chance_corrected")) for level in levels]
    table.insert(4, "share of the AUROC above chance", kept)
    gained = [with_interval(level["minus_zero_shot"], "+") for level in levels]
    table.insert(3, "minus zero-shot", gained)
    return as_markdown(table.rename(columns={"share": "share of the gap", "n_seeds": "seeds"}))


def ladder(earlier: bool = False) -> str:
    """Return what each way of training reached on radiographs, today or in version 0.3."""
    table = ladder_tables.chest_table(stored("ladder"), earlier).rename(
        columns={
            "share": "share of the gap",
            "n_seeds": "seeds",
            "seconds": "seconds of training",
            "core_seconds": "seconds of one core in all",
        }
    )
    return as_markdown(table)


def trials(name: str) -> str:
    """Return the trials on a tuning cohort, one seed each."""
    columns = ["arm", "epsilon", "start", "head", "trained", "views", "batch", "epochs"]
    columns += ["learning_rate", "clip_norm", "averaging", "noise_multiplier"]
    columns += ["head_steps", "head_learning_rate", "head_clip_norm", "head_share", "auroc"]
    table = pd.DataFrame(stored(name)["rows"])
    return as_markdown(table[[column for column in columns if column in table]], 4)


def real_contrasts() -> str:
    """Return contrasts between groups on real films, without privacy and in ours."""
    arms = (real_tables.CEILING, "ours, head", "ours, both")
    return as_markdown(real_tables.contrast_table(stored("real_ladder"), arms))


def needed() -> str:
    """Return how many patients are needed for a share of the gain, by the learning curve."""
    path = RESULTS / "learning_curve.json"
    if not path.exists():
        return "Not measured yet: `python benchmarks/learning_curve.py`.\n"
    curve = real_tables.curve_by_rule(files.read_json(path, ""))
    budgets = sorted(curve["epsilon"].unique())
    table = patients_needed.table(curve, budgets, [0.3, 0.5, 0.7])
    for name in ("patients", "low", "high"):
        values = table[name].map("{:,.0f}".format)
        table[name] = values.replace({"nan": "", "inf": "not bounded"})
    return as_markdown(table.rename(columns={"share": "share of the gap"}))


def coverage() -> str:
    """Return how often 95 % intervals cover the truth, by what is resampled."""
    table = pd.DataFrame(stored("coverage")["rows"])
    table = table.pivot(index=["quantity", "correlation"], columns="unit", values="coverage")
    names = {"patient": "patients resampled", "image": "images resampled"}
    return as_markdown(
        table.reset_index().rename(columns=names)[["quantity", "correlation", *names.values()]]
    )


def small_groups() -> str:
    """Return the coverage in groups with few patients, a column an AUROC."""
    table = pd.DataFrame(stored("coverage")["small_groups"])
    rows = ["quantity", "intervals", "images", "n_findings", "patients_with", "patients_without"]
    wide = table.set_index([*rows, "auroc"])["coverage"].unstack("auroc", sort=False)
    return as_markdown(wide.rename(columns="AUROC {:g}".format).reset_index())


def planted_truth(name: str) -> str:
    """Return how often planted effects are found in fresh test cohorts."""
    names = {"arm_label": "arm", "attribute": "attribute", "truth": "truth"}
    names |= {"truth_error": "standard error", "smallest_visible": "minimum detectable"}
    names |= {"found": "CI excludes 0", "covers": "CI covers the truth"}
    return as_markdown(pd.DataFrame(stored(name)["rows"])[list(names)].rename(columns=names))


def minority() -> str:
    """Return what a group's size does to its contrast and to the change of it by privacy."""
    columns = ["share", "what", "run", "estimate", "low", "high"]
    table = pd.DataFrame(stored("minority")["rows"])[columns]
    return as_markdown(
        table.rename(columns={"share": "share of training patients", "run": "epsilon"})
    )


def inverted_films() -> str:
    """Return AUROC by scanner with and without inverted films in public training."""
    return as_markdown(pd.DataFrame(stored("inverted_films")["rows"]))


def audited(name: str, **names: str) -> str:
    """Return a table of the audit that `make audit` made, with some of its columns renamed.

    Args:
        name: of the table in `expected/`.
        names: column -> shown name; these columns are shown.
    """
    table = pd.read_csv(ROOT / "expected" / f"audit_06_{name}.csv")
    if "verdict" in table:
        table = table[table["verdict"] == "more exposed"]
    return as_markdown((table[list(names)] if names else table).rename(columns=names))


def audited_faults() -> str:
    """Return what an audit proves of planted faults: a column a budget."""
    table = pd.DataFrame(stored("audited_faults")["rows"])
    table["proved"] = [
        f"{row.at_least:.2f}" + (", **refuted**" if row.refuted else "")
        for row in table.itertuples()
    ]
    table["budget"] = [f"promised {promised:.2f}" for promised in table["promised"].round(2)]
    wide = table.pivot_table(
        index=["recipe", "fault"], columns="budget", values="proved", aggfunc="first", sort=False
    )
    return as_markdown(wide.reset_index())


def private_step(name: str) -> str:
    """Return the time and memory of a private step in ordinary steps."""
    columns = [
        "setting",
        "variant",
        "milliseconds",
        "ratio",
        "ratio_low",
        "ratio_high",
        "peak_ratio",
    ]
    return as_markdown(pd.DataFrame(stored(name)["rows"])[columns], 2)


def step_calls() -> str:
    """Return the calls of a step by width, units and way."""
    return as_markdown(pd.DataFrame(stored("step_calls")["rows"]), 2)


def planned_hours() -> str:
    """Return hours and disk of studies at real size, from steps on an H200 and the loader."""
    import variants

    batches = {setting.name: setting.batch for setting in variants.SETTINGS}
    speed = next(row for row in stored("loader")["speeds"] if row["channels"] == 3)
    loader_ms = 1000 / speed["films_per_second"]["loader"]
    table = planning_tables.hours_table(stored("private_step_h200"), batches, loader_ms)
    return as_markdown(table, 2)


def network_steps() -> str:
    """Return the time, memory and error of a private step of each network."""
    columns = ["network", "parameters", "variant", "milliseconds", "ratio"]
    columns += ["ratio_low", "ratio_high", "peak_ratio", "relative_error", "error_float32"]
    table = pd.DataFrame(stored("network_steps")["rows"]).reindex(columns=[*columns, "remark"])
    for name in ("relative_error", "error_float32"):
        table[name] = table[name].map("{:.1e}".format).replace("nan", "")
    table["parameters"] = table["parameters"].map("{:,}".format)
    return as_markdown(table.dropna(axis=1, how="all"), 2)


def growth() -> str:
    """Return milliseconds of a step as batch, image and network grow."""
    table = pd.DataFrame(stored("growth")["rows"])
    table = table.pivot(index=["axis", "value"], columns="variant", values="milliseconds")
    return as_markdown(table.round(0).reset_index(), 0)


def numbers() -> dict[str, str]:
    """Return the numbers that sentences of the site need."""
    from tests.privacy_faults import FAULTS

    bootstrap, covered, memory = stored("bootstrap"), stored("coverage"), stored("ct_memory")
    fairness = stored("fairness_seconds")
    of_patients, of_images = (
        np.array([row["coverage"] for row in covered["rows"] if row["unit"] == unit and at(row)])
        for unit, at in (
            ("patient", lambda row: True),
            ("image", lambda row: row["correlation"] == 0.5),
        )
    )
    step = pd.DataFrame(stored("private_step")["rows"])
    ours = step[step["variant"].str.startswith("ours")]["ratio"]
    at_512 = pd.DataFrame(stored("private_step_h200")["rows"]).query("setting == '512px_3ch'")
    h200_peak = f"{at_512['peak_bytes'].max() / 1e9:.0f} GB"
    opacus = step[step["variant"].str.startswith("opacus")]["ratio"]

    of_networks = [
        row for row in stored("network_steps")["rows"] if row["variant"].startswith("ours")
    ]

    printed = published_results.read("pdac")
    printed = printed[printed["attribute"] == "all"].set_index("epsilon")["auroc"]
    ct_levels = {level["epsilon"] for level in stored("ct_ladder")["levels"]} - {None}
    kept = (printed.loc[sorted(ct_levels)] - 0.5) / (printed.loc[float("inf")] - 0.5)
    ct = manifests.read("synthetic_ct_private").layout.patients

    small = pd.DataFrame(covered["small_groups"]).query("intervals == 'influence'")
    one_each, small = (small[(small["images"] == "1") == is_one] for is_one in (True, False))
    is_one = small["n_findings"] == 1

    def percent(share: float) -> str:
        return f"{100 * share:.0f} %"

    def span(values: list[float], form: str) -> str:
        return f"{min(values):{form}} to {max(values):{form}}"

    def hardware(name: str) -> str:
        about = stored(name)["hardware"]
        return ", ".join(f"{about[key]} {key}" for key in ("cores", "threads")) + (
            f", {about['device']}" if "device" in about else ""
        )

    return {
        "n_faults": str(len(FAULTS)),
        "audit_models": str(profiles.read_profile("audit").notebooks["06"]["N_MODELS"]),
        "fault_canaries": f"{stored('audited_faults')['n_canaries']:,}",
        "fairness_seconds": f"{fairness['seconds']:.0f} s",
        "fairness_memory": f"{fairness['peak_memory_gb']:.1f} GB",
        "fairness_size": ", ".join(f"{value:,} {key}" for key, value in fairness["sizes"].items()),
        "bootstrap_seconds": f"{bootstrap['seconds']:.0f} s",
        "bootstrap_ratio": f"{bootstrap['ratio']:.0f}",
        "bootstrap_size": ", ".join(
            f"{value:,} {key}" for key, value in bootstrap["sizes"].items()
        ),
        "covered_patients": span(100 * of_patients, ".1f") + " %",
        "covered_images": span(100 * of_images, ".1f") + " %",
        "n_coverage_cohorts": f"{covered['n_cohorts']:,}",
        "covered_one": span(100 * small["coverage"][is_one], ".1f") + " %",
        "covered_means": span(100 * small["coverage"][~is_one], ".1f") + " %",
        "covered_one_each": span(100 * one_each["coverage"], ".1f") + " %",
        "n_small_cells": str(len(small)),
        "n_small_outside": str((~small["coverage"].between(0.935, 0.965)).sum()),
        "cxr_least_coverage": percent(stored("planted_truth")["goals"]["least_coverage"]),
        "cxr_mean_coverage": percent(stored("planted_truth")["goals"]["mean_coverage"]),
        "cxr_cohorts": str(stored("planted_truth")["n_cohorts"]),
        "ct_mean_coverage": percent(stored("ct_planted_truth")["goals"]["mean_coverage"]),
        "ct_cohorts": str(stored("ct_planted_truth")["n_cohorts"]),
        "ct_train": f"{ct['train']:,}",
        "ct_test": f"{ct['test']:,}",
        "pdac_volumes": f"{manifests.read('pdac_tum').sizes['images']:,}",
        "paper_kept": ", ".join(
            f"{percent(share)} at {budget:g}" for budget, share in kept.items()
        ),
        "ct_memory": f"{max(row['gigabytes'] for row in memory['rows'][:2]):.2f} GB",
        "ct_memory_volumes": span([row["volumes"] for row in memory["rows"][:2]], ",.0f"),
        "ours_ratio": span(ours, ".2f"),
        "opacus_ratio": span(opacus, ".1f"),
        "step_hardware": hardware("private_step"),
        "loader_hardware": hardware("loader"),
        "loader_remark": stored("loader")["remark"],
        "h200_hardware": hardware("private_step_h200"),
        "h200_peak": h200_peak,
        "h200_512_remark": at_512["remark"].iloc[0],
        "loader_patients": f"{stored('loader')['patients_a_step']:,}",
        "network_hardware": hardware("network_steps"),
        "network_batch": ", ".join(
            f"{stored('network_steps')['rows'][0][key]} {word}"
            for key, word in (("batch", "images"), ("image_px", "px"))
        ),
        "network_error": f"{max(row['relative_error'] for row in of_networks):.0e}",
        "network_remark": stored("network_steps")["remark"],
        "network_ratio": span([row["ratio"] for row in of_networks], ".1f"),
        "h200_remark": stored("private_step_h200")["remark"],
    }


# ---- the package


def cohorts() -> str:
    """Return the shipped manifests."""
    rows = []
    for path in sorted((ROOT / "data_manifests").rglob("*.yaml")):
        if path.parent.name == "published_results":
            continue
        manifest = manifests.read(path)
        sizes = ", ".join(f"{value:,} {key}" for key, value in manifest.sizes.items())
        rows.append(
            {"name": f"`{manifest.name}`", "title": manifest.title, "access": manifest.access}
            | {"licence": manifest.licence, "sizes": sizes}
        )
    return as_markdown(pd.DataFrame(rows))


def studies() -> str:
    """Return the shipped profiles."""
    rows = [
        {"profile": f"`{name}`", "study": profiles.read_profile(name).title}
        for name in profiles.names()
    ]
    return as_markdown(pd.DataFrame(rows))


def parameters() -> str:
    """Return the parameters of each notebook: those you will change, those you rarely will."""
    parts = []
    for number, path in notebook_files.notebooks().items():
        parts.append(f"## Notebook {path.stem}\n")
        table = notebook_files.parameter_table(number).rename(columns={"type": "values"})
        for column in ("parameter", "default"):
            table[column] = table[column].map(lambda text: f"`{text}`")
        for is_rare, rows in table.groupby("rarely"):
            parts.append("Rarely changed:\n" if is_rare else "")
            parts.append(as_markdown(rows[PARAMETER_COLUMNS]))
    return "\n".join(parts)


def modules(wing: str) -> list[Path]:
    """Return the modules of a wing that somebody imports."""
    folder = ROOT / "helpers" / wing.replace(".", "/")
    return [path for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]


def first_sentence(path: Path) -> str:
    """Return the first paragraph of a module's docstring, on one line."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def wings() -> str:
    """Return every module of every wing with what it is for."""
    parts = []
    for wing in WINGS:
        folder = ROOT / "helpers" / wing.replace(".", "/")
        table = pd.DataFrame(
            {"module": f"`{path.stem}`", "what it holds": first_sentence(path)}
            for path in modules(wing)
        )
        parts.append(
            f"### {wing}\n\n{first_sentence(folder / '__init__.py')}\n\n{as_markdown(table)}"
        )
    return "\n".join(parts)


def contracts() -> str:
    """Return the rules of imports that `make lint` checks."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return "".join(
        f"- {contract['name']}\n" for contract in about["tool"]["importlinter"]["contracts"]
    )


def api_pages(folder: Path) -> None:
    """Write one page a wing, in reStructuredText: autodoc reads the docstrings."""
    folder.mkdir(parents=True, exist_ok=True)
    for wing in WINGS:
        title = f"helpers.{wing}"
        text = f"{title}\n{'=' * len(title)}\n\n"
        for path in modules(wing):
            if path.stem == "__main__":
                continue
            name = f"{title}.{path.stem}"
            text += (
                f"{path.stem}\n{'-' * len(path.stem)}\n\n.. automodule:: {name}\n   :members:\n\n"
            )
        (folder / f"{wing}.rst").write_text(text, encoding="utf-8")


def copies(folder: Path) -> None:
    """Copy figures and notebooks to where Sphinx finds them."""
    for source in (*RESULTS.glob("*.png"), *(ROOT / "expected").glob("*.png")):
        shutil.copyfile(source, folder / source.name)
    for name, paths in (("notebooks", notebook_files.notebooks().values()), ("course", LESSONS)):
        (folder / name).mkdir(exist_ok=True)
        for path in paths:
            text = path.read_text(encoding="utf-8")
            text = re.sub(r"\]\((\.\./)+docs/", "](../../", text)
            text = re.sub(r"\[([^]\[]+)\]\((\.\./)+[a-z_]+/[^)]+\)", r"\1", text)  # not of the site
            (folder / name / path.name).write_text(text, encoding="utf-8")


def lessons() -> str:
    """Return the lessons of the course: question, minutes, exercises."""
    rows = []
    for path in LESSONS:
        cells = files.read_json(path, "Run `make course`.")["cells"]
        first = "".join(cells[0]["source"])
        title = first.splitlines()[0].split(": ", 1)[1]
        minutes = map(int, re.findall(r"\| (\d+) \|$", first, re.MULTILINE))
        code = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        rows.append(
            {
                "lesson": path.stem[:1],
                "question": f"[{title}](_generated/course/{path.stem})",
                "minutes": str(sum(minutes)),
                "exercises": str(len(re.findall(rf"Exercise {path.stem[:1]}\.\d is right", code))),
            }
        )
    return as_markdown(pd.DataFrame(rows))


def write_all(folder: Path) -> None:
    """Write everything anew into `docs/_generated/`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    fragments = {
        "course": lessons(),
        "demo": study_table("demo"),
        "demo_ct": study_table("demo_ct"),
        "chestxray14_part": study_table("chestxray14_part"),
        "real_ladder": as_markdown(real_tables.level_table(stored("real_ladder"))),
        "real_goals": as_markdown(real_tables.goal_table(stored("real_ladder"))),
        "real_contrasts": real_contrasts(),
        "patients_needed": needed(),
        "ladder": ladder(),
        "ladder_0_3": ladder(earlier=True),
        "ladder_arms": as_markdown(ladder_tables.arm_table()),
        "ladder_goals": as_markdown(ladder_tables.goal_table(stored("ladder"))),
        "ladder_differences": as_markdown(ladder_tables.difference_table(stored("ladder"))),
        "ct_ladder": ct_ladder(),
        "ladder_trials": trials("ladder_trials"),
        "ladder_starts": as_markdown(ladder_tables.start_table(stored("ladder_trials")["rows"])),
        "ct_trials": trials("ct_trials"),
        "coverage": coverage(),
        "small_groups": small_groups(),
        "planted_truth": planted_truth("planted_truth"),
        "ct_planted_truth": planted_truth("ct_planted_truth"),
        "minority": minority(),
        "inverted_films": inverted_films(),
        "audit_beside_bounds": audited(
            "beside_bounds",
            arm_label="arm",
            measure="measure",
            estimate="estimate",
            low="low",
            high="high",
            bound="most by DP",
        ),
        "audit_exposed": audited("exposed"),
        "audit_groups": audited(
            "groups",
            arm_label="arm",
            attribute="attribute",
            group="group",
            n_patients="patients",
            auroc="AUROC",
            contrast="contrast",
            low="low",
            high="high",
        ),
        "audited_epsilon": audited("audited_epsilon"),
        "audited_faults": audited_faults(),
        "private_step": private_step("private_step"),
        "private_step_h200": private_step("private_step_h200"),
        "step_calls": step_calls(),
        "network_steps": network_steps(),
        "growth": growth(),
        "planned_hours": planned_hours(),
        "loader": as_markdown(planning_tables.loader_table(stored("loader")), 2),
        "loader_epochs": as_markdown(planning_tables.epoch_table(stored("loader"))),
        "cohorts": cohorts(),
        "studies": studies(),
        "parameters": parameters(),
        "wings": wings(),
        "contracts": contracts(),
    }
    for name, text in fragments.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    api_pages(folder / "api")
    copies(folder)
