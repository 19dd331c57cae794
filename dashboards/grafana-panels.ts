/** What each kind of panel is set to in Grafana, beside what a panel says itself. */
import {
  FieldColorModeId,
  FrameGeometrySourceMode,
  GraphDrawStyle,
  LegendDisplayMode,
  LineInterpolation,
  SortOrder,
  TooltipDisplayMode,
  VisibilityMode,
  type FieldColor,
} from '@grafana/schema';
import type { Kind, PanelSpec, SourceName } from './model.ts';

/**
 * A gap is to be seen, and its reason beside it: a line of the store goes on through intervals in which nothing came for no
 * longer than this, and from one interval to the next however wide those are.
 */
const GAP_MS = 3_600_000;

/** A line that is drawn from point to point. */
export const isLine = ({ kind, isStepped = false, isCounted = false }: PanelSpec): boolean =>
  kind === 'timeseries' && !isStepped && !isCounted;

const legend = {
  showLegend: true,
  displayMode: LegendDisplayMode.List,
  placement: 'bottom',
  calcs: [],
};
const tooltip = { mode: TooltipDisplayMode.Multi, sort: SortOrder.Descending };

export const OPTIONS: Record<Kind, Record<string, unknown>> = {
  timeseries: { legend, tooltip },
  stat: { reduceOptions: { calcs: ['lastNotNull'] }, textMode: 'auto', colorMode: 'value' },
  table: { showHeader: true },
  // The buckets are Prometheus' own, not counted from points.
  heatmap: { calculate: false, yAxis: { unit: 's' }, color: { scheme: 'Blues', mode: 'scheme' } },
  'state-timeline': {
    mergeValues: true,
    showValue: VisibilityMode.Auto,
    alignValue: 'left',
    rowHeight: 0.8,
    legend,
    tooltip: { mode: TooltipDisplayMode.Single, sort: SortOrder.None },
  },
  geomap: {
    view: { id: 'fit', allLayers: true, lat: 0, lon: 0, zoom: 4, padding: 20, maxZoom: 12 },
    controls: { showZoom: true, mouseWheelZoom: false, showAttribution: true },
    basemap: { type: 'default', name: 'Map' },
    tooltip: { mode: 'details' },
    layers: [
      {
        type: 'markers',
        name: 'Gateways',
        location: {
          mode: FrameGeometrySourceMode.Coords,
          latitude: 'latitude',
          longitude: 'longitude',
        },
        config: {
          showLegend: false,
          style: {
            color: { field: 'state', fixed: 'green' },
            size: { fixed: 8, min: 6, max: 12 },
            opacity: 0.9,
            text: { mode: 'field', field: 'gateway', fixed: '' },
            textConfig: { fontSize: 12, offsetX: 0, offsetY: 16 },
          },
        },
      },
    ],
  },
};

/** Without thresholds of its own a figure would have Grafana's, which are red from 80 on. */
export function colorOf({ kind, thresholds, states }: PanelSpec): { color?: FieldColor } {
  if (kind === 'timeseries') return { color: { mode: FieldColorModeId.PaletteClassic } };
  if (kind === 'heatmap') return {};
  const isPlain = kind === 'stat' && thresholds === undefined && states === undefined;
  return {
    color: isPlain
      ? { mode: FieldColorModeId.Fixed, fixedColor: 'blue' }
      : { mode: FieldColorModeId.Thresholds },
  };
}

export function customOf(panel: PanelSpec, source: SourceName): Record<string, unknown> {
  const { kind, thresholds, unit, isStepped = false, isCounted = false, gapMs = GAP_MS } = panel;
  switch (kind) {
    case 'timeseries':
      return {
        showPoints: VisibilityMode.Auto,
        ...(isStepped ? { lineInterpolation: LineInterpolation.StepAfter } : {}),
        ...(isCounted ? { drawStyle: GraphDrawStyle.Bars, fillOpacity: 60 } : {}),
        // Of Prometheus Grafana knows how far apart points are, and cuts by itself.
        ...(isLine(panel) && source === 'influxdb' ? { spanNulls: gapMs } : {}),
        ...(thresholds === undefined ? {} : { thresholdsStyle: { mode: 'dashed' } }),
        ...(unit === 'percentunit' ? { axisSoftMin: 0, axisSoftMax: 1 } : {}),
      };
    case 'state-timeline':
      return { fillOpacity: 75, lineWidth: 0 };
    case 'table':
      return { align: 'auto', filterable: true };
    default:
      return {};
  }
}
