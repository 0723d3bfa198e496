/**
 * Collects what hosts on the local network claim about one endpoint's addresses.
 *
 * Any host can send any number of claims, from any number of addresses. What is remembered is therefore bounded.
 * Chance decides which claim is kept and which is next, so that no host can be sure to be first, or keep
 * others out.
 */

/** Maximum number of senders that are remembered. */
const MAX_SENDERS = 64;
/** Maximum number of addresses per sender. A host has a few, on each of two ports. */
const MAX_ADDRESSES_PER_SENDER = 8;

/** Socket addresses, each with the senders that claim it. None is proven before a handshake. */
export class UnverifiedHints {
  #claims = new Map<string, string[]>();
  #tried = new Set<string>();

  /** Remembers what a sender claims. @returns The addresses that no other sender has claimed. */
  add(sender: string, addresses: readonly string[]): string[] {
    const known = this.#addresses();
    let claimed = this.#claims.get(sender) ?? [];
    const fresh = [...new Set(addresses)].filter((address) => !claimed.includes(address))
      .slice(0, MAX_ADDRESSES_PER_SENDER);
    if (fresh.length === 0) return [];
    if (!this.#claims.has(sender)) this.#makeRoomForSender();
    while (claimed.length + fresh.length > MAX_ADDRESSES_PER_SENDER) {
      const old = hintToForget(claimed, (address) => this.#tried.has(address));
      claimed = claimed.filter((address) => address !== old);
    }
    this.#claims.set(sender, [...claimed, ...fresh]);
    this.#forgetTried();
    return fresh.filter((address) => !known.has(address));
  }

  /** Number of addresses that have not been tried. */
  get waiting(): number {
    return this.#addresses().difference(this.#tried).size;
  }

  /**
   * Returns an address that has not been tried, and marks it as tried. It is one of a random sender with
   * probability ½, otherwise one of a sender with the fewest tried addresses. So neither many addresses nor
   * many senders buy more attempts.
   */
  next(): string | undefined {
    const senders = this.#untriedBySender();
    const fewest = Math.min(...senders.map(({ tried }) => tried));
    const isOpenToAll = Math.random() < 0.5;
    const sender = anyOf(senders.filter(({ tried }) => isOpenToAll || tried === fewest));
    const address = sender && anyOf(sender.untried);
    if (address !== undefined) this.#tried.add(address);
    return address;
  }

  /** Marks addresses as not tried, by default all. */
  resetTried(addresses: Iterable<string> = [...this.#tried]): void {
    for (const address of addresses) this.#tried.delete(address);
  }

  /** Returns, for each sender that has some, its untried addresses and the number of its tried ones. */
  #untriedBySender(): { tried: number; untried: string[] }[] {
    return [...this.#claims.values()].map((claimed) => {
      const untried = claimed.filter((address) => !this.#tried.has(address));
      return { tried: claimed.length - untried.length, untried };
    }).filter(({ untried }) => untried.length > 0);
  }

  #addresses(): Set<string> {
    return new Set([...this.#claims.values()].flat());
  }

  #makeRoomForSender(): void {
    if (this.#claims.size < MAX_SENDERS) return;
    const isTried = (address: string) => this.#tried.has(address);
    const [sender] = hintToForget([...this.#claims], ([, claimed]) => claimed.every(isTried));
    this.#claims.delete(sender);
  }

  /** Removes the marks of addresses that no sender claims now: claimed again, they are tried again. */
  #forgetTried(): void {
    this.#tried = this.#tried.intersection(this.#addresses());
  }
}

/** Picks a random item that has been tried, or if there is none, any item. */
function hintToForget<T>(all: readonly T[], isTried: (one: T) => boolean): T {
  return anyOf(all.filter(isTried)) ?? anyOf(all)!;
}

function anyOf<T>(all: readonly T[]): T | undefined {
  return all[Math.floor(Math.random() * all.length)];
}
