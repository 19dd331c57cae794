/** A sheet of labels to print and cut: which card is whose, readable by a person and, as a QR code of the name, by a phone. */
import { writeFileSync } from 'node:fs';
import qrcode from 'qrcode-generator';

export interface Label {
  name: string;
  /** The Wi-Fi that it is for; '': none. */
  network: string;
}

const escaped = (text: string): string =>
  text.replaceAll(/[&<>"]/g, (sign) => `&#${sign.codePointAt(0)};`);

/** One path of all dark modules, in a square of modules with the four light ones around that ISO/IEC 18004 wants. */
function code(text: string): string {
  const qr = qrcode(0, 'M');
  qr.addData(text, 'Byte');
  qr.make();
  const count = qr.getModuleCount();
  let path = '';
  for (let row = 0; row < count; row++)
    for (let column = 0; column < count; column++)
      if (qr.isDark(row, column)) path += `M${column + 4} ${row + 4}h1v1h-1z`;
  const size = count + 8;
  return `<svg viewBox="0 0 ${size} ${size}" role="img" aria-label="${escaped(text)}"><path d="${path}"/></svg>`;
}

const STYLE = `@page { size: A4; margin: 10mm }
body { margin: 0; font: 9pt sans-serif; display: grid; grid-template-columns: repeat(3, 62mm); gap: 2mm }
div { min-height: 30mm; border: 0.2mm dashed #999; display: flex; align-items: center; gap: 1mm; break-inside: avoid }
svg { width: 27mm; height: 27mm; flex: none }
b { font-size: 11pt; overflow-wrap: anywhere }
span { overflow-wrap: anywhere }`;

/** HTML of A4 pages, three labels beside each other. */
export function labelSheet(labels: readonly Label[]): string {
  const all = labels.map(
    ({ name, network }) =>
      `<div>${code(name)}<span><b>${escaped(name)}</b><br>Headwater gateway${network === '' ? '' : `<br>Wi-Fi ${escaped(network)}`}</span></div>`,
  );
  return `<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Labels of ${labels.length} gateways</title>\n<style>${STYLE}</style>\n${all.join('\n')}\n</html>\n`;
}

export function writeLabels(path: string, labels: readonly Label[]): void {
  writeFileSync(path, labelSheet(labels));
}
