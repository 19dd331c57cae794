"""Session windows by Spark Structured Streaming over the topic `readings`: how long each series spoke without a pause.

Usage: spark-submit --packages org.apache.spark:spark-sql-kafka-0-10_2.12:3.5.7 sessions.py BROKERS TOPIC OUTPUT CHECKPOINT [GAP]

It reads what there is and ends; without `availableNow` it goes on. Spark's checkpoint makes each session appear once.
"""

import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, IntegerType, LongType, MapType, StringType, StructField, StructType

brokers, topic, output, checkpoint = sys.argv[1:5]
gap = sys.argv[5] if len(sys.argv) > 5 else "10 minutes"

# A record of the topic, as docs/readings.md has it; what is not used is left out.
RECORD = StructType(
    [
        StructField("gateway", StringType()),
        StructField("series", ArrayType(StructType([StructField("measurement", StringType()), StructField("tags", MapType(StringType(), StringType()))]))),
        StructField("readings", ArrayType(StructType([StructField("series", IntegerType()), StructField("time", LongType())]))),
    ]
)

spark = SparkSession.builder.appName("sessions").config("spark.sql.session.timeZone", "UTC").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")

records = (
    spark.readStream.format("kafka")
    .option("kafka.bootstrap.servers", brokers)
    # Steps of the log are transactions: what was taken back is not read.
    .option("kafka.isolation.level", "read_committed")
    .option("subscribe", topic)
    .option("startingOffsets", "earliest")
    .load()
    .select(F.from_json(F.col("value").cast("string"), RECORD).alias("record"))
)
readings = records.select("record.gateway", "record.series", F.explode("record.readings").alias("reading")).select(
    "gateway",
    F.expr("series[reading.series].measurement").alias("measurement"),
    F.expr("to_json(series[reading.series].tags)").alias("tags"),
    F.timestamp_millis("reading.time").alias("time"),
)
sessions = (
    readings.withWatermark("time", "1 hour")
    .groupBy(F.session_window("time", gap), "measurement", "tags")
    .count()
    .select("measurement", "tags", F.col("session_window.start").alias("begin"), F.col("session_window.end").alias("end"), "count")
)
query = (
    sessions.writeStream.outputMode("append")
    .format("json")
    .option("path", output)
    .option("checkpointLocation", checkpoint)
    .trigger(availableNow=True)
    .start()
)
query.awaitTermination()
