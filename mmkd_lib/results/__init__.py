"""What is made of records: tables, claims with verdicts, figures, the registry of artefacts."""
