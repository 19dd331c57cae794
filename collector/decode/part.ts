/** Mappings and the decode stage as parts of a collector. */
import { counter, gauge } from '../../shared/telemetry/metrics.ts';
import type { CollectorConfig } from '../config.ts';
import { logPart } from '../log/part.ts';
import type { CollectorPart } from '../part.ts';
import type { SeriesLimits } from './admission.ts';
import type { Mappings } from './mapping/mappings.ts';
import { addPackages } from './codecs/packages.ts';
import { VersionKeeper } from './kept-version.ts';
import { MappingSet, type MappingVersion } from './mapping/set.ts';
import { DecodeStage } from './stage.ts';

export const seriesLimits = (config: CollectorConfig): SeriesLimits => ({
  perClient: config['decode.seriesPerClientMax'],
  perGateway: config['decode.seriesPerGatewayMax'],
  fieldsPerTopic: config['decode.fieldsPerTopicMax'],
  fieldsPerGateway: config['decode.fieldsPerGatewayMax'],
  fieldsInAll: config['decode.fieldsMax'],
});

interface LoadedMappings {
  set: MappingSet;
  loaded: { mappings: Mappings; version: MappingVersion };
}

/** Read by every role, so that a mistake in them is told before anything is touched. */
export const mappingsPart: CollectorPart<LoadedMappings> = {
  name: 'mappings',
  open: async ({ context: { config, notify, nowMs, extraMappings } }) => {
    await addPackages(config, notify, nowMs);
    const set = new MappingSet(
      {
        file: config.mappings,
        extra: extraMappings,
        shipped: config['decode.shippedMappings'],
        localZone: config['decode.localZone'],
        pastDays: config['decode.deviceTimePastDays'],
      },
      notify,
    );
    return { set, loaded: await set.load() };
  },
};

interface Decoding {
  stage: DecodeStage;
  set: MappingSet;
  keeper: VersionKeeper;
}

export const decodePart: CollectorPart<Decoding> = {
  name: 'decode',
  roles: ['decode'],
  open: async (site) => {
    const { config, env, notify } = site.context;
    const log = site.get(logPart);
    const { set, loaded } = site.get(mappingsPart);
    const stage = new DecodeStage(log, loaded.mappings, seriesLimits(config), notify);
    const keeper = new VersionKeeper(log, env, notify);
    await keeper.keep(loaded.version);
    stage.start();
    set.watch((mappings, version) => {
      stage.decoder.mappings = mappings;
      void keeper.keep(version);
    });
    return { stage, set, keeper };
  },
  metrics: {
    headwater_decode_messages_total: counter(
      'Messages decoded or quarantined, each identity once.',
      ({ stage }) => stage.decoder.decodedMessages,
    ),
    headwater_decode_readings_total: counter(
      'Readings made of messages.',
      ({ stage }) => stage.decoder.decodedReadings,
    ),
    headwater_decode_duplicates_total: counter(
      'Messages that came again and were left out.',
      ({ stage }) => stage.duplicateMessages,
    ),
    headwater_decode_empty_total: counter(
      'Messages without any value.',
      ({ stage }) => stage.decoder.emptyMessages,
    ),
    headwater_decode_omitted_values_total: counter(
      'Numbers that were none (NaN, infinities) beside others that were stored.',
      ({ stage }) => stage.decoder.omittedValues,
    ),
    headwater_decode_left_over_total: counter(
      'Messages of which a mapping left a value over that it does not drop by name.',
      ({ stage }) => stage.decoder.leftOverMessages,
    ),
    headwater_decode_quarantined_total: counter(
      'Messages that could not be decoded, by reason.',
      ({ stage }) => stage.quarantinedBy.read(),
    ),
    headwater_decode_late_readings_total: counter(
      'Readings that reached the collector more than ten seconds after the gateway.',
      ({ stage }) => stage.decoder.lateReadings,
    ),
    headwater_decode_held_frames: gauge(
      "Frames that wait until their gateway's clock is known.",
      ({ stage }) => stage.heldFrames,
    ),
  },
  close: async ({ stage, set, keeper }) => {
    set.close();
    await keeper.close();
    await stage.close();
  },
};
