/** Topic aliases of a client, which end with its connection [MQTT-3.3.2-7 to -12]. */
import type { Publish } from './packets.ts';
import { REASON, Refusal, protocolError } from './reasons.ts';

/** That a client may use [MQTT-3.2.2-17]; some use eight without asking. */
export const ALIASES_MAX = 16;

export class TopicAliases {
  private readonly topics = new Map<number, string>();

  /** The topic of a PUBLISH; one that comes with an alias is kept for it. */
  topicOf({ topic, said }: Publish): string {
    const alias = said.numbers.topicAlias;
    if (alias === undefined) {
      if (topic === '') protocolError('neither topic nor alias');
      return topic;
    }
    if (alias === 0 || alias > ALIASES_MAX)
      throw new Refusal(
        REASON.topicAliasInvalid,
        `topic alias ${alias}, ${ALIASES_MAX} is the largest`,
      );
    if (topic === '')
      return this.topics.get(alias) ?? protocolError(`topic alias ${alias} is not known`);
    this.topics.set(alias, topic);
    return topic;
  }
}
