"""Reads the lake as it lies there, with pandas and with Spark, and prints count, sum, mean, minimum and maximum of a field
by series and day. Usage: aggregate.py LAKE FIELD pandas|spark"""

import json
import sys

lake, field, engine = sys.argv[1:4]


def by_pandas():
    import pandas as pd

    frame = pd.read_parquet(f"{lake}/readings", columns=["date", "series", "fields"])
    # Parquet maps come as lists of pairs.
    frame["value"] = [dict(pairs).get(field) for pairs in frame["fields"]]
    rows = frame.dropna(subset=["value"]).groupby(["series", "date"], observed=True)["value"]
    table = rows.agg(["count", "sum", "mean", "min", "max"]).reset_index()
    return table.assign(date=table["date"].astype(str)).values.tolist()


def by_spark():
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName("aggregate").config("spark.ui.enabled", "false")
    spark = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    spark.read.parquet(f"{lake}/readings").createOrReplaceTempView("readings")
    rows = spark.sql(
        f"""SELECT series, CAST(date AS STRING) AS date, count(value), sum(value), avg(value), min(value), max(value)
        FROM (SELECT series, date, fields['{field}'] AS value FROM readings) WHERE value IS NOT NULL
        GROUP BY series, date"""
    )
    return [list(row) for row in rows.collect()]


print("RESULT " + json.dumps(by_pandas() if engine == "pandas" else by_spark()))
