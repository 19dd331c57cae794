/** What is chosen above dashboards of the store, in InfluxQL. */
import type { VariableSpec } from './model.ts';

export const MEASUREMENT: VariableSpec = {
  name: 'measurement',
  label: 'Measurement',
  query: 'SHOW MEASUREMENTS',
  all: false,
  // What the collector itself says of gateways, fields and rules has dashboards of its own.
  only: '^(?!headwater_|alerts$).*$',
};

/** A field of the measurement that the variable `measurement` has chosen; texts and truth values say by their name what they are (docs/readings.md). */
export const numberField = (name: string, label: string, measurement: string): VariableSpec => ({
  name,
  label,
  query: `SHOW FIELD KEYS FROM "$${measurement}"`,
  only: '^(?!.*_(text|bool)$).*$'.replace('(text', '(?:text'),
  all: false,
});

/** Gateways that have brought something of the measurement. */
export const GATEWAY_OF: VariableSpec = {
  name: 'gateway',
  label: 'Gateway',
  query: 'SHOW TAG VALUES FROM "$measurement" WITH KEY = "gateway"',
  all: true,
};

/** Gateways that the collector has spoken of. */
export const GATEWAY: VariableSpec = {
  name: 'gateway',
  label: 'Gateway',
  query: 'SHOW TAG VALUES FROM "headwater_gateways" WITH KEY = "gateway"',
  all: true,
};
