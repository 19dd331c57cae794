/** What is chosen above dashboards of the store, in InfluxQL. */
import type { VariableSpec } from './model.ts';

export const MEASUREMENT: VariableSpec = {
  name: 'measurement',
  label: 'Measurement',
  query: 'SHOW MEASUREMENTS',
  all: false,
};

/** A field of the measurement that the variable `measurement` has chosen. */
export const numberField = (name: string, label: string, measurement: string): VariableSpec => ({
  name,
  label,
  query: `SHOW FIELD KEYS FROM "$${measurement}"`,
  isNumber: true,
  all: false,
});
