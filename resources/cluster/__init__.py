"""Apache Spark, the lake it reads, and on which engine a relational expression runs."""
