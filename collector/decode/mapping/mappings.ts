/** Which mappings a topic has, remembered per gateway and topic, so that the readings of one topic share their tags. */
import type { Mapping } from './mapping.ts';
import { topicKey } from '../codecs/home-assistant.ts';
import { timeRules, type TimeRules } from '../../../shared/codecs/time.ts';
import { Bound, Remembered } from '../../../shared/model/remembered.ts';
import type { Rule } from './rule.ts';
import { matchTemplate } from './template.ts';

/** A mapping whose template matches a topic. */
export interface Candidate {
  mapping: Mapping;
  isGated: boolean;
  names: ReadonlyMap<string, string>;
  measurement: string;
  tags: Record<string, string>;
  /** Tags of rules that take none from the payload. */
  fixedTags: Map<Rule, Record<string, string>>;
}

/** What a topic means. One object per topic and gateway. */
export interface Meaning {
  candidates: readonly Candidate[];
  /** Members of which a document has to have one for any of the gated candidates to take it: most have none. */
  gates: ReadonlySet<string>;
  /** Of what no mapping takes. */
  measurement: string;
  tags: Record<string, string>;
  /** Key of what discovery says of it. */
  discoveryKey: string;
}

/** Meanings and tag sets remembered; cleared when there are more. */
const REMEMBERED_MAX = 100_000;

/** Names that begin with an underscore are for other texts of the mapping alone. */
const isTag = (name: string): boolean =>
  name !== 'measurement' && name !== 'field' && !name.startsWith('_');

/** A mapping's gate, where it is looked at in the document that is read without any mapping. */
const openGate = ({ gate, codec, charset, compression }: Mapping): string | undefined =>
  (codec === 'auto' || codec === 'none') && charset === undefined && compression === undefined
    ? gate
    : undefined;

export class Mappings {
  private readonly mappings: readonly Mapping[];
  /** By gateway, then topic: no key has to be made of the two for each message. */
  private readonly known = new Map<string, Map<string, Meaning>>();
  private readonly bound = new Bound(REMEMBERED_MAX);
  private readonly tagSets = new Remembered<Record<string, string>>(REMEMBERED_MAX);
  readonly times: TimeRules;

  /** `localZone`: IANA zone of devices that give local time; `pastDays`: how old a device's time may be. */
  constructor(mappings: readonly Mapping[], localZone?: string, pastDays?: number) {
    this.mappings = mappings;
    this.times = timeRules(localZone, pastDays);
  }

  of(gateway: string, topic: string): Meaning {
    const known = this.known.get(gateway)?.get(topic);
    if (known !== undefined) return known;
    const meaning = this.resolve(gateway, topic);
    if (this.bound.add(topic, () => this.known.clear())) {
      const topics = this.known.get(gateway) ?? new Map<string, Meaning>();
      this.known.set(gateway, topics.set(topic, meaning));
    }
    return meaning;
  }

  /** The same object for the same tags: stores find a series by it. */
  shared(tags: Record<string, string>): Record<string, string> {
    // One rule makes its tags in one order: sorting them would only cost.
    let key = '';
    for (const name in tags) key += `${name}\0${tags[name]}\0`;
    const known = this.tagSets.get(key);
    if (known !== undefined) return known;
    this.tagSets.set(key, tags);
    return tags;
  }

  private resolve(gateway: string, topic: string): Meaning {
    const last = topic.split('/').findLast((level) => level !== '') ?? 'message';
    const candidates: Candidate[] = [];
    for (const mapping of this.mappings) {
      const names = mapping.templates
        .map((template) => matchTemplate(template, topic))
        .find((each) => each !== undefined);
      if (names === undefined) continue;
      const tags: Record<string, string> = {};
      for (const [name, value] of names) if (isTag(name) && value !== '') tags[name] = value;
      const measurement = names.get('measurement') || last;
      const own = { ...tags, gateway };
      const isGated = openGate(mapping) !== undefined;
      candidates.push({ mapping, isGated, names, measurement, tags: own, fixedTags: new Map() });
    }
    return {
      candidates,
      gates: new Set(candidates.flatMap(({ mapping }) => openGate(mapping) ?? [])),
      measurement: last,
      tags: { topic, gateway },
      discoveryKey: topicKey(topic),
    };
  }
}
