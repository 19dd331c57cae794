"""Runs the SQL of a batch job on Spark: reads what to do as JSON from standard input, writes Parquet.

The views are the same as on DuckDB: `raw`, `readings`, `results` (newest revisions) and `points` (a number a row).
"""

import json
import sys

from pyspark.sql import SparkSession


def main() -> None:
    work = json.load(sys.stdin)
    builder = SparkSession.builder.appName("headwater-batch")
    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "8",
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    for zone, paths in work["files"].items():
        if paths:
            frame = spark.read.option("mergeSchema", "true").parquet(*paths)
        else:
            frame = spark.createDataFrame([], work["schemas"][zone])
        frame.createOrReplaceTempView(f"{zone}_all" if zone == "results" else zone)
    for name, sql in work["views"].items():
        spark.sql(sql).createOrReplaceTempView(name)
    spark.sql(work["sql"]).coalesce(1).write.mode("overwrite").parquet(work["output"])
    spark.stop()


if __name__ == "__main__":
    main()
