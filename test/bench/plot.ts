/** Bar charts as SVG, without a library: one row a bar, the figure beside it. */
export interface Bar {
  label: string;
  value: number;
  text: string;
  ours: boolean;
}

const escape = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');

export function barChart(title: string, bars: Bar[]): string {
  const most = Math.max(...bars.map(({ value }) => value));
  const rows = bars.map(({ label, value, text, ours }, index) => {
    const y = 44 + index * 34;
    const width = Math.max(1, Math.round((value / most) * 380));
    return `<text x="210" y="${y + 16}" text-anchor="end">${escape(label)}</text><rect x="220" y="${y}" width="${width}" height="22" rx="3" fill="${ours ? '#0b6e99' : '#9aa7b2'}"/><text x="${228 + width}" y="${y + 16}">${escape(text)}</text>`;
  });
  const height = 60 + bars.length * 34;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="760" height="${height}" viewBox="0 0 760 ${height}" font-family="system-ui, sans-serif" font-size="14" fill="#33414e"><rect width="760" height="${height}" fill="#ffffff"/><text x="16" y="26" font-size="16" font-weight="600">${escape(title)}</text>${rows.join('')}</svg>\n`;
}
