"""Apache Spark, the lake that it reads, and the database engines on which relational expressions run."""
