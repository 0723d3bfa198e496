/** Opens an outbound session: through the listener if there is one, or standalone. */

import { abortable } from "../async/abort.ts";
import { debug } from "../console/stderr.ts";
import { type ControlLocator, locateControlSocket, otherVersion } from "../control/locator.ts";
import { ConfigChanged, ControlUnavailable } from "../control/unavailable.ts";
import { Away } from "../dial/unreachable.ts";
import type { WorkingContext } from "../repository/repository.ts";
import { StreamError } from "../streams/duplex.ts";
import { peerFailure } from "./failures.ts";
import type { OutboundSession, Wanted } from "./outbound.ts";
import { isAddressLike } from "./without_git.ts";

/**
 * Opens a session with a peer.
 *
 * @param certain The listener, as far as it was found without git.
 * @param context Asks git.
 * @throws {Failure} if the peer cannot be reached. @throws The signal's reason.
 */
export async function openOutbound(
  wanted: Wanted,
  certain: ControlLocator | undefined,
  context: () => Promise<WorkingContext>,
): Promise<OutboundSession> {
  if (certain) {
    try {
      return await openOrWait(wanted, certain, certain.config?.id, context);
    } catch (error) {
      if (!(error instanceof ConfigChanged)) throw error;
      debug(() => error.message);
    }
  }
  const found = await abortable(context(), wanted.signal);
  const locator = isAddressLike(wanted.address) ? locatorFor(found) : undefined;
  if (locator) return await openOrWait(wanted, locator, undefined, () => Promise.resolve(found));
  await noteVersion(found);
  return await openAlone(wanted, found);
}

/** Returns the locator of the listener, if there is one and the settings permit its use. */
function locatorFor({ settings, repository }: WorkingContext): ControlLocator | undefined {
  // With `lane = false` the peer speaks dumbpipe's protocol, which cannot keep a connection.
  if (!repository || !settings.warm || !settings.lane) return undefined;
  return locateControlSocket(repository, settings);
}

/** Lets the log say if the listener is of another version. */
async function noteVersion({ settings, repository }: WorkingContext): Promise<void> {
  const version = repository && settings.warm ? otherVersion(repository) : undefined;
  if (version === undefined) return;
  const { noteOtherVersion } = await import("./version_notice.ts");
  await noteOtherVersion(repository!, version);
}

/** Opens a session as {@linkcode openSooner} does. If the peer is away, a dial of remotedaemon waits for it. */
async function openOrWait(
  wanted: Wanted,
  locator: ControlLocator,
  config: string | undefined,
  context: () => Promise<WorkingContext>,
): Promise<OutboundSession> {
  for (;;) {
    const opened = await openSooner(wanted, locator, config, context);
    if (!(opened instanceof Away)) return opened;
    const { awaitReturn } = await import("./peer_return.ts");
    await awaitReturn(opened, locator, wanted);
  }
}

/**
 * Opens a session through the listener. If the listener is slow to accept the request, this process also
 * connects by itself, and whichever is sooner counts: the machine may be busy, or the listener may hang.
 *
 * @param config The id of the git config in the locator, if the settings come from it.
 * @param context Called if this process must connect by itself.
 * @returns {Away} if the listener believes that the peer is away. It tells when the peer is back.
 * @throws {ConfigChanged} if the listener does not confirm the git config.
 */
async function openSooner(
  wanted: Wanted,
  locator: ControlLocator,
  config: string | undefined,
  context: () => Promise<WorkingContext>,
): Promise<OutboundSession | Away> {
  const { signal } = wanted;
  const cancelListener = new AbortController(), cancelAlone = new AbortController();
  let alone: Promise<OutboundSession> | undefined;
  const openNow = async (signal: AbortSignal) => openAlone({ ...wanted, signal }, await context());
  const onSlow = () => {
    const attempt = alone = openNow(AbortSignal.any([signal, cancelAlone.signal]));
    attempt.then(() => {
      if (alone === attempt) {
        cancelListener.abort(new ControlUnavailable("this process was sooner"));
      }
    }, (error) => debug(() => `not by itself: ${error}`)); // the listener may still answer
  };
  const onAccepted = () => {
    if (cancelListener.signal.aborted) return;
    cancelAlone.abort(new Error("the listener was sooner"));
    alone?.then(discard, () => {}); // mostly it has been cancelled
    alone = undefined;
  };
  const listenerSignal = AbortSignal.any([signal, cancelListener.signal]);
  const request = { ...wanted, config, onSlow, onAccepted, signal: listenerSignal };
  try {
    const { openViaListener } = await import("./via_listener.ts");
    const outbound = await openViaListener(locator, request);
    if (outbound) return outbound;
  } catch (error) {
    onAccepted(); // the listener has decided
    if (error instanceof Away) return error;
    throw error;
  }
  return await (alone ?? openNow(signal));
}

/** Gives up a session that is not needed. */
async function discard(outbound: OutboundSession): Promise<void> {
  using _ = outbound;
  await outbound.giveUp(new Error("not needed")).catch(() => {}); // it has ended
}

/** Loads the modules that only a standalone process needs, and connects. @throws {Away} at once, if it is known. */
async function openAlone(
  { address, onLane, signal }: Wanted,
  { settings, repository }: WorkingContext,
): Promise<OutboundSession> {
  const [{ AbsenceMemory }, { decodeTicket }] = await Promise.all([
    import("../dial/absence_memory.ts"),
    import("../repository/ticket.ts"),
  ]);
  const ticket = decodeTicket(address);
  let absence = await AbsenceMemory.load(ticket, settings);
  if (absence.isAway && await (await import("./started_by.ts")).isPairing()) {
    await AbsenceMemory.forget(ticket); // the user knows that the peer is there
    absence = await AbsenceMemory.load(ticket, settings);
  }
  if (absence.failure) throw absence.failure;
  // The addon loads meanwhile. openStandalone() awaits it, and throws if it cannot be loaded.
  import("../iroh/load.ts").then(({ loadIroh }) => loadIroh()).catch(() => {});
  const { openStandalone } = await import("./standalone.ts");
  try {
    return await openStandalone(ticket, settings, repository, absence, onLane, signal);
  } catch (error) {
    throw error instanceof StreamError ? peerFailure(error) : error;
  }
}
