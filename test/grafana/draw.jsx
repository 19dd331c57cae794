/**
 * In the browser: draws a dashboard's JSON with Grafana's own libraries. Field configuration, overrides, units, thresholds, value
 * mappings and reductions are `@grafana/data`'s, charts, figures, tables and frames `@grafana/ui`'s. What is not in either
 * (state timelines, maps and heatmaps are part of the server's application) is drawn as a table of the same fields.
 */
import {
  FieldConfigOptionsRegistry,
  FieldType,
  ThemeContext,
  applyFieldOverrides,
  cacheFieldDisplayNames,
  createTheme,
  dataLinksOverrideProcessor,
  dateTime,
  displayNameOverrideProcessor,
  getFieldDisplayValues,
  identityOverrideProcessor,
  numberOverrideProcessor,
  thresholdsOverrideProcessor,
  toDataFrame,
  unitOverrideProcessor,
  valueMappingsOverrideProcessor,
} from '@grafana/data';
import {
  BigValue,
  BigValueColorMode,
  BigValueGraphMode,
  BigValueTextMode,
  GlobalStyles,
  PanelChrome,
  TimeSeries,
} from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { createRoot } from 'react-dom/client';

const [WIDTH, ROW, GAP] = [1240, 30, 8];
const COLUMN = (WIDTH + GAP) / 24;
const theme = createTheme({ colors: { mode: 'light' } });
const asItIs = (text) => text;

const standard = {
  displayName: displayNameOverrideProcessor,
  unit: unitOverrideProcessor,
  thresholds: thresholdsOverrideProcessor,
  mappings: valueMappingsOverrideProcessor,
  links: dataLinksOverrideProcessor,
  noValue: identityOverrideProcessor,
  color: identityOverrideProcessor,
  min: numberOverrideProcessor,
  max: numberOverrideProcessor,
};
const custom = ['drawStyle', 'showPoints', 'width', 'lineInterpolation', 'align', 'axisSoftMax', 'axisSoftMin', 'cellOptions', 'fillOpacity', 'filterable']
  .concat(['hidden', 'lineWidth', 'spanNulls', 'thresholdsStyle'])
  .map((path) => [path, identityOverrideProcessor]);
const registry = new FieldConfigOptionsRegistry(() => [
  ...Object.entries(standard).map(([path, process]) => item(path, path, process, false)),
  ...custom.map(([path, process]) => item(`custom.${path}`, path, process, true)),
]);
function item(id, path, process, isCustom) {
  const editor = () => null;
  return { id, path, name: id, process, isCustom, editor, override: editor, shouldApply: () => true };
}

/** As the server's transformation of that name does it: the rest is in the application, not in its libraries. */
function withUnits(frames, transformations = []) {
  const found = transformations.find(({ id }) => id === 'configFromData');
  if (found === undefined) return frames;
  const { configRefId, mappings } = found.options;
  const said = frames.find(({ refId }) => refId === configRefId);
  const config = {};
  for (const { fieldName, handlerKey } of mappings) {
    const value = said?.fields.find(({ name }) => name === fieldName)?.values[0];
    if (value !== undefined && value !== null) config[handlerKey] = value;
  }
  return frames
    .filter((frame) => frame !== said && frame.refId !== configRefId)
    .map((frame) => ({
      ...frame,
      fields: frame.fields.map((field) =>
        field.type === FieldType.number ? { ...field, config: { ...field.config, ...config } } : field,
      ),
    }));
}

function framesOf(panel, data) {
  const frames = withUnits(data.map((frame) => toDataFrame(frame)), panel.transformations);
  const all = applyFieldOverrides({
    data: frames,
    fieldConfig: panel.fieldConfig,
    fieldConfigRegistry: registry,
    replaceVariables: asItIs,
    theme,
    timeZone: 'utc',
  });
  cacheFieldDisplayNames(all);
  return all;
}

function Figures({ panel, frames, width, height }) {
  const all = getFieldDisplayValues({
    data: frames,
    fieldConfig: panel.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: asItIs,
    theme,
    timeZone: 'utc',
  });
  const shown = all.length === 0 ? [{ display: { text: 'none', numeric: Number.NaN } }] : all;
  const columns = Math.ceil(Math.sqrt((shown.length * width) / (height * 2.5)));
  const own = Math.max(1, Math.min(shown.length, columns));
  const rows = Math.ceil(shown.length / own);
  return (
    <div style={{ display: 'flex', flexWrap: 'wrap' }}>
      {shown.map(({ display }, at) => (
        <BigValue
          key={at}
          width={Math.floor(width / own)}
          height={Math.floor(height / rows)}
          theme={theme}
          value={display}
          count={shown.length}
          colorMode={BigValueColorMode.Value}
          graphMode={BigValueGraphMode.None}
          textMode={panel.options.textMode ?? BigValueTextMode.Auto}
        />
      ))}
    </div>
  );
}

/** Where something happened, as the annotations of the dashboard say. */
const marked = (events) => (builder) => {
  builder.addHook('draw', (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    for (const { time, timeEnd = time, color } of events) {
      const x = plot.valToPos(time, 'x', true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.fillStyle = theme.visualization.getColorByName(color);
      ctx.globalAlpha = 0.12;
      ctx.fillRect(x, bbox.top, plot.valToPos(timeEnd, 'x', true) - x, bbox.height);
      ctx.globalAlpha = 0.8;
      for (let y = bbox.top; y < bbox.top + bbox.height; y += 8) ctx.fillRect(x, y, 1.5, 5);
      ctx.beginPath();
      ctx.moveTo(x - 5, bbox.top + bbox.height + 6);
      ctx.lineTo(x + 5, bbox.top + bbox.height + 6);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.fill();
    }
    ctx.restore();
  });
  return null;
};

/** Frames one below the other: what of a series is a column of its own in the application is a row here. */
function tableOf(frames) {
  if (frames.length <= 1) return frames[0];
  const rows = frames.flatMap(({ fields: [time, value], name }) =>
    time.values.map((at, index) => [at, name ?? '', value.values[index]]),
  );
  rows.sort(([a], [b]) => b - a);
  const [{ fields }] = frames;
  const names = { ...fields[0], name: 'series', type: FieldType.string, config: {} };
  const of = (field, at) => ({ ...field, values: rows.map((row) => row[at]), state: undefined });
  names.display = (value) => ({ text: String(value), numeric: Number.NaN });
  const value = { ...fields[1], name: 'value', config: { ...fields[1].config } };
  delete value.config.displayNameFromDS;
  delete value.config.displayName;
  return { ...frames[0], length: rows.length, fields: [of(fields[0], 0), of(names, 1), of(value, 2)] };
}

function Shown({ panel, frames, width, height, range, events }) {
  if (panel.type === 'stat') return <Figures {...{ panel, frames, width, height }} />;
  const isEmpty = frames.every(({ length }) => length === 0);
  if (isEmpty) return <p style={{ textAlign: 'center', paddingTop: height / 3 }}>No data</p>;
  if (panel.type === 'timeseries')
    return (
      <TimeSeries
        {...{ frames: frames.map(cut), width, height, timeRange: range, timeZone: 'utc' }}
        legend={panel.options.legend}
      >
        {marked(events)}
      </TimeSeries>
    );
  const frame = tableOf(frames);
  const fields = frame.fields.filter(({ config }) => config.custom?.hidden !== true);
  return <TableNG data={{ ...frame, fields }} width={width} height={height} enableVirtualization={false} />;
}

/**
 * The application does so, series by series: where the data source says how far apart points are, a line is cut where two are
 * further apart; and it goes on through nothing for less than `spanNulls` milliseconds.
 */
function cut(frame) {
  const [time, value] = frame.fields;
  const apart = time.config.interval;
  const least = value.config.custom?.spanNulls;
  const [times, values] = [[], []];
  let last;
  for (const [at, now] of time.values.entries()) {
    const own = value.values[at];
    const before = time.values[at - 1];
    if (apart !== undefined && before !== undefined && now - before > apart) {
      times.push(before + apart);
      values.push(null);
    }
    if (own !== null && last !== undefined && typeof least === 'number' && now - last < least)
      while (values.at(-1) === null) {
        times.pop();
        values.pop();
      }
    if (own !== null) last = now;
    times.push(now);
    values.push(own);
  }
  const custom = { ...value.config.custom, spanNulls: false };
  const fields = [
    { ...time, values: times, config: { ...time.config, interval: undefined, custom: {} } },
    { ...value, values, config: { ...value.config, custom } },
  ];
  return { ...frame, fields, length: times.length };
}

const NOT_THERE = { 'state-timeline': 'a state timeline', geomap: 'a map', heatmap: 'a heatmap' };

function Board({ model, data, range, events }) {
  return (
    <div style={{ position: 'relative', width: WIDTH }}>
      {model.panels.map((panel) => {
        const { x, y, w, h } = panel.gridPos;
        const place = { left: x * COLUMN, top: y * (ROW + GAP) + 46, position: 'absolute' };
        const [width, height] = [w * COLUMN - GAP, h * (ROW + GAP) - GAP];
        const note = NOT_THERE[panel.type];
        const title = note === undefined ? panel.title : `${panel.title} (in Grafana ${note})`;
        return (
          <div key={panel.id} style={place}>
            <PanelChrome title={title} width={width} height={height}>
              {(inner, innerHeight) => (
                <Shown
                  {...{ panel, range, events, width: inner, height: innerHeight }}
                  frames={framesOf(panel, data[panel.id] ?? [])}
                />
              )}
            </PanelChrome>
          </div>
        );
      })}
    </div>
  );
}

globalThis.draw = ({ model, data, fromMs, toMs, events }) => {
  const range = { from: dateTime(fromMs), to: dateTime(toMs) };
  const bottom = Math.max(...model.panels.map(({ gridPos: { y, h } }) => y + h));
  const root = document.getElementById('root');
  root.style.height = `${bottom * (ROW + GAP) + 56}px`;
  createRoot(root).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <h3 style={{ margin: 0, padding: '8px 0 0 4px' }}>{model.title}</h3>
      <div style={{ marginTop: -36 }}>
        <Board {...{ model, data, events }} range={{ ...range, raw: range }} />
      </div>
    </ThemeContext.Provider>,
  );
};
