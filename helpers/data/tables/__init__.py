"""From a data set's own tables, folders and tags to a cohort's rows, by the manifest's rules."""
