-- about: What every number of every series did on a day.
-- schedule: 20 0 * * *
-- lookback: 7
-- measurement: daily_summary
SELECT
  any_value(tags) AS tags,
  measurement AS source,
  field,
  count(*) AS count,
  avg(value) AS mean,
  min(value) AS min,
  max(value) AS max,
  stddev_samp(value) AS stddev,
  percentile_cont(0.05) WITHIN GROUP (ORDER BY value) AS p05,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS p50,
  percentile_cont(0.95) WITHIN GROUP (ORDER BY value) AS p95
FROM points
WHERE time >= {{from}} AND time < {{to}}
GROUP BY series, measurement, field
