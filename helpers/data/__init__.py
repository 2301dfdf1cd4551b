"""From a data set's files to a cohort: manifests, label rules, decoding, duplicates, groups."""
