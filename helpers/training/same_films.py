"""The same films in two data sets: they would void a promise, or flatter a test.

In: cohorts, the names in PRETRAIN and EVALUATE_ON. Out: what is shared, in words. Raises
`InputError` where that may not be.

Films are compared by their pixels at native size and by their files, whatever their names, their
size here and their patients' ids, which two data sets give independently of each other.
"""

from helpers.core import errors, paths
from helpers.data import cohorts, manifest_schema, manifests
from helpers.training import network_settings

PREDICTED = ("valid", "test")


def shared_films(
    cohort: cohorts.Cohort,
    splits: tuple[str, ...],
    other: cohorts.Cohort,
    other_splits: tuple[str, ...],
) -> list[str]:
    """Return the image ids of films of a cohort's splits that are in splits of another, too."""
    is_wanted, is_there = (
        made.table["split"].isin(names) for made, names in ((cohort, splits), (other, other_splits))
    )
    table = cohort.table[["image_id"]].assign(films=cohort.films(), pixels=cohort.pixels())
    is_shared = table["films"].isin(other.films()[is_there]) | table["pixels"].isin(
        other.pixels()[is_there]
    )
    return table.loc[is_wanted & is_shared, "image_id"].tolist()


def in_two_data_sets(
    private: cohorts.Cohort, public: cohorts.Cohort | None, elsewhere: cohorts.Cohort | None
) -> list[str]:
    """Return a sentence for each way in which films of two data sets of a study are the same ones.

    Args:
        private: the cohort that is trained on under a promise.
        public: the one pretrained on, if any: none of its films may be a private training film, and
            no private film may be one of its training films.
        elsewhere: the one that models are tried on, if any: none of the films predicted there may
            be a training film of the other two.
    """
    sentences = []
    if public and public.name != private.name:
        every = manifest_schema.SPLITS
        if shared_films(private, ("train",), public, every) or shared_films(
            private, PREDICTED, public, ("train",)
        ):
            films = shared_films(private, every, public, every)
            sentences += _said(films, f"films of {private.name} are in PRETRAIN = {public.name}")
    for trained_on in (private, public):
        if elsewhere and trained_on and elsewhere.name != trained_on.name:
            for split in PREDICTED:
                films = shared_films(elsewhere, (split,), trained_on, ("train",))
                whose = f"{split} films of EVALUATE_ON = {elsewhere.name}"
                sentences += _said(films, f"{whose} are training films of {trained_on.name}")
    return sentences


def check(
    private: cohorts.Cohort,
    public: cohorts.Cohort | None,
    evaluate_on: str,
    is_refused: bool | None = None,
) -> None:
    """Accept a study in which no film of one data set comes back in another; of drawn patients, say
    so and go on.

    Args:
        private, public: see `in_two_data_sets`.
        evaluate_on: name of the further cohort, or "none"; one that is not built is not compared.
        is_refused: None: where the private cohort is of real patients.

    Raises:
        InputError: films are shared.
    """
    sentences = in_two_data_sets(private, public, _built(evaluate_on))
    if is_refused is None:
        is_refused = private.record.get("access", "private") != "embedded"
    if sentences and is_refused:
        errors.refuse(
            f"PRETRAIN and EVALUATE_ON of other films than those of {private.name}",
            "; ".join(sentences),
            "Leave them out of one of the two. What a film taught before has no guarantee, so that"
            " the promise would be empty, and a test on films trained on measures nothing.",
        )
    for sentence in sentences:
        print(f"Note: {sentence}.")


def check_study_of(private: cohorts.Cohort) -> None:
    """Refuse what `check` refuses, with PRETRAIN and EVALUATE_ON as notebook 02 kept them, if it
    did; drawn patients, too.
    """
    public, evaluate_on = _settings_of(private.name)
    check(private, _built(public), evaluate_on, is_refused=True)


def ledger_entry(private: cohorts.Cohort) -> dict[str, str]:
    """Return what the ledger does not cover because of films in two data sets; {} for none."""
    public, evaluate_on = _settings_of(private.name)
    sentences = in_two_data_sets(private, _built(public), _built(evaluate_on))
    return {"films in two data sets": "; ".join(sentences)} if sentences else {}


def _said(films: list[str], what: str) -> list[str]:
    """Return a sentence about shared films, if there are any."""
    return [f"{len(films):,} {what}, e.g. {errors.examples(sorted(films))}"] if films else []


def _built(name: str) -> cohorts.Cohort | None:
    """Return a cohort by the name in a parameter; None for none, for weights, or if not built."""
    if name == "none" or name.endswith(paths.WEIGHT_FILES):
        return None
    is_built = (paths.cohort_dir(manifests.name_of(name)) / "record.json").exists()
    return cohorts.read(name) if is_built else None


def _settings_of(cohort: str) -> tuple[str, str]:
    """Return PRETRAIN and EVALUATE_ON of a cohort's study, "none" where nobody has set them."""
    if not network_settings.path_of(cohort).exists():
        return "none", "none"
    settings = network_settings.read(cohort)
    return settings.pretrain, settings.evaluate_on
