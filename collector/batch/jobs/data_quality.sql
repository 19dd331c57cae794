-- about: Gaps of more than half an hour, values that do not move, and values that stand at the end of their range.
-- schedule: 30 0 * * *
-- lookback: 7
-- measurement: data_quality
WITH stepped AS (
  SELECT
    series, measurement, field, tags, value,
    (time_ns - lag(time_ns) OVER w) / 1e9 AS step_seconds,
    CASE WHEN value = lag(value) OVER w THEN 0 ELSE 1 END AS is_new,
    row_number() OVER w AS place,
    max(value) OVER (PARTITION BY series, measurement, field) AS top
  FROM points
  WHERE time >= {{from}} AND time < {{to}}
  WINDOW w AS (PARTITION BY series, measurement, field ORDER BY time_ns, epoch, sequence)
),
runs AS (
  SELECT
    *,
    sum(is_new) OVER (PARTITION BY series, measurement, field ORDER BY place ROWS UNBOUNDED PRECEDING) AS run
  FROM stepped
),
lengths AS (
  SELECT
    *,
    count(*) OVER (PARTITION BY series, measurement, field, run) AS run_length
  FROM runs
)
SELECT
  any_value(tags) AS tags,
  measurement AS source,
  field,
  count(*) AS readings,
  count(CASE WHEN step_seconds > 1800 THEN 1 END) AS gaps,
  max(step_seconds) AS longest_gap_seconds,
  max(run_length) AS longest_run,
  CAST(count(CASE WHEN run_length >= 20 THEN 1 END) AS DOUBLE) / count(*) AS stuck_share,
  CAST(count(CASE WHEN value = top THEN 1 END) AS DOUBLE) / count(*) AS at_top_share,
  max(value) AS top,
  count(CASE WHEN run_length >= 20 THEN 1 END) >= 20 AS stuck,
  min(value) < max(value)
    AND count(CASE WHEN value = top THEN 1 END) >= 10
    AND count(CASE WHEN value = top THEN 1 END) >= 0.1 * count(*) AS saturated
FROM lengths
GROUP BY series, measurement, field
