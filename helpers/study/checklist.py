"""The checklist of a study's report: which artefact answers which item.

Items are those of CLAIM (Mongan, Moy and Kahn 2020) and TRIPOD+AI (Collins et al. 2024). In: the
addresses of a study's pages, folders and tables. Out: rows for the report's template.
"""

from collections.abc import Collection

# item, what it asks for, what answers it; {01} to {05}: the page of that notebook
CHECKLIST = [
    ("CLAIM 7, TRIPOD+AI 5", "Sources of data, licence", "{01}"),
    ("CLAIM 8 and 33, TRIPOD+AI 6 and 20", "Who is in, who was left out and why", "{01}"),
    ("CLAIM 9, TRIPOD+AI 7", "Preparation of images", "{01}"),
    ("CLAIM 13, TRIPOD+AI 11", "Missing labels, ages and sexes", "{01}"),
    ("CLAIM 14, TRIPOD+AI 8", "Definition of the findings", "{01}"),
    ("CLAIM 20 and 21, TRIPOD+AI 16", "Partitions, disjoint by patient", "{01}"),
    ("CLAIM 34, TRIPOD+AI 20", "Patients by partition, age and sex", "{01}"),
    (
        "CLAIM 22, 24 and 25, TRIPOD+AI 12 and 22",
        "Network, start, training, all parameters",
        "runs/",
    ),
    (
        "CLAIM 26",
        "Which model is kept: of the last step of a fixed schedule, its weights a running mean",
        "{02}",
    ),
    (
        "beyond both",
        "What privacy is promised, to whom, what was spent, what is not covered",
        "{03}",
    ),
    (
        "beyond both",
        "What all private runs on these patients spent together",
        "tables/04_spent.csv",
    ),
    (
        "beyond both",
        "What the price of privacy is made of: schedule, clipping, noise",
        "tables/04_price_parts.csv",
    ),
    ("CLAIM 28, TRIPOD+AI 12", "Measures of performance, thresholds from valid", "{04}"),
    (
        "CLAIM 29 and 36, TRIPOD+AI 23",
        "Performance with intervals over patients, in key subgroups",
        "tables/04_metrics.csv",
    ),
    (
        "CLAIM 19, TRIPOD+AI 10",
        "What the size of the test set could have shown",
        "tables/04_planned.csv",
    ),
    (
        "TRIPOD+AI 14",
        "Fairness: contrasts, their change by privacy, verdicts",
        "tables/04_gap_changes.csv",
    ),
    (
        "CLAIM 30",
        "Sensitivity analyses: one image a patient, closed-form errors",
        "tables/05_one_image_each.csv",
    ),
    ("beyond both", "The paper's measures and printed numbers beside ours", "{05}"),
    ("CLAIM 32, TRIPOD+AI 12", "External validation, where EVALUATE_ON names a data set", "{04}"),
    (
        "CLAIM 37",
        "Where models fail: price by finding and group",
        "tables/04_price_by_finding_and_group.csv",
    ),
    ("CLAIM 23, TRIPOD+AI 18", "Software, versions, commit, hardware of every run", "runs/"),
    (
        "CLAIM 3, 12, 38, 40 to 42, TRIPOD+AI 3, 17 to 19, 26",
        "Clinical role, ethics, de-identification, registration, protocol, funding, limitations",
        "",
    ),
]


def rows(links: dict[str, str], tables: Collection[str] = ()) -> list[dict]:
    """Return the rows of `CHECKLIST`; an artefact that this study does not have is said to be
    absent.

    Args:
        links: text -> relative address of the study's pages and folders.
        tables: relative addresses of further tables that are there.

    Returns:
        item, question, address (relative, "" without one), answer.
    """
    pages = {  # of several steps of one notebook the first, of 03 the first with privacy
        f"{{{text[:2]}}}": address
        for text, address in reversed(links.items())
        if text[:2].isdigit() and "same_recipe" not in text
    }
    known = {*links.values(), *tables}
    found = []
    for item, question, artefact in CHECKLIST:
        address = pages.get(artefact, artefact)
        answer = address if address in known else "not in this study"
        found.append(
            {
                "item": item,
                "question": question,
                "address": address if address in known else "",
                "answer": answer if artefact else "in the paper",
            }
        )
    return found
