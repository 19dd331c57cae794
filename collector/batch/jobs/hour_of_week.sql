-- about: What is usual at each hour of the week (0 is Monday, midnight, UTC), from the last four weeks; each at the newest such hour.
-- schedule: 50 0 * * 1
-- lookback: 1
-- input: 28
-- measurement: hour_of_week
WITH hours AS (
  SELECT
    series, measurement, field, tags, value, time,
    -- 1970-01-01 was a Thursday: three days into its week.
    CAST((floor(time_ns / 3600000000000) + 72) AS BIGINT) % 168 AS hour_of_week
  FROM points
  WHERE time >= {{input_from}} AND time < {{to}}
)
SELECT
  any_value(tags) AS tags,
  measurement AS source,
  field,
  -- One series of a week, to be laid over what is measured, and not 168 of them.
  date_trunc('hour', max(time)) AS time,
  hour_of_week,
  count(*) AS count,
  avg(value) AS mean,
  stddev_samp(value) AS stddev,
  min(value) AS min,
  max(value) AS max
FROM hours
GROUP BY series, measurement, field, hour_of_week
