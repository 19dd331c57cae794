"""Runs the SQL of a batch job on Spark: reads what to do as JSON from standard input, writes Parquet.

The views are the same as on DuckDB: `raw`, `readings`, `results` (newest revisions) and `points` (a number a row).

The SQL is one query of these views: no files by their names, no scripts, no Java methods, nothing that writes.
"""

import json
import re
import sys

from pyspark.sql import SparkSession

# Functions that call any Java method.
CALLERS = ("reflect", "java_method", "try_reflect")
# Nodes of a parsed plan that run a program, or are no query.
REFUSED = re.compile(r"ScriptTransformation|Insert|Command|Create|Replace[A-Z]|Drop|Alter|Delete|Update[A-Z]|Merge")


def check(spark: SparkSession, sql: str) -> None:
    """Ends the job with one sentence when its SQL is more than a query."""
    plan = spark._jsparkSession.sessionState().sqlParser().parsePlan(sql)
    nodes = re.findall(r"^[\s:+\-*]*'?(\w+)", plan.treeString(), re.MULTILINE)
    refused = [node for node in nodes if REFUSED.search(node)]
    if refused:
        sys.exit(f"Error: the job is more than a query: {refused[0]}")


def seal(spark: SparkSession) -> None:
    registry = spark._jsparkSession.sessionState().functionRegistry()
    for name in CALLERS:
        registry.dropFunction(spark._jvm.org.apache.spark.sql.catalyst.FunctionIdentifier(name))


def main() -> None:
    work = json.load(sys.stdin)
    builder = SparkSession.builder.appName("headwater-batch")
    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "8",
        "spark.sql.runSQLOnFiles": "false",
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
    seal(spark)
    check(spark, work["sql"])
    spark.sql(work["sql"]).coalesce(1).write.mode("overwrite").parquet(work["output"])
    spark.stop()


if __name__ == "__main__":
    main()
