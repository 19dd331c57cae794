-- about: How much the hourly means of two series of the same field move together, over the last seven days.
-- schedule: 40 0 * * *
-- lookback: 1
-- input: 7
-- measurement: correlation
WITH hourly AS (
  SELECT series, measurement, field, date_trunc('hour', time) AS hour, avg(value) AS value
  FROM points
  WHERE time >= {{input_from}} AND time < {{to}}
  GROUP BY series, measurement, field, date_trunc('hour', time)
)
SELECT
  a.series AS series_a,
  b.series AS series_b,
  a.field AS field,
  count(*) AS hours,
  corr(a.value, b.value) AS correlation
FROM hourly AS a
JOIN hourly AS b ON a.hour = b.hour AND a.field = b.field AND a.measurement = b.measurement AND a.series < b.series
GROUP BY a.series, b.series, a.field
-- What does not move has no correlation, and rounding must not pass for movement.
HAVING count(*) >= 24
  AND stddev_samp(a.value) > 1e-9 * (1 + abs(avg(a.value)))
  AND stddev_samp(b.value) > 1e-9 * (1 + abs(avg(b.value)))
