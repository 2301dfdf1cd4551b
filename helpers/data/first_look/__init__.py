"""Before a cohort is built: fetch the files, write a first manifest, check it."""
