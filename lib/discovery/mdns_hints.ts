/**
 * What is said on the local network of where one endpoint is. Anybody can say anything, as often as they
 * like and from as many addresses, so what is remembered is bounded, and which is kept and which is next
 * is left to chance: nobody can count on being first, or on keeping others out.
 */

const MOST_SENDERS = 64;
const MOST_ADDRESSES_PER_SENDER = 8;

/** Socket addresses as hints, each with those who say it. Who answers there has to prove the key. */
export class UnverifiedHints {
  #said = new Map<string, string[]>();
  #tried = new Set<string>();

  /** Remembers what a sender says. @returns What nobody has said before, as far as that is known. */
  add(sender: string, addresses: readonly string[]): string[] {
    const known = this.#addresses();
    let said = this.#said.get(sender) ?? [];
    const fresh = [...new Set(addresses)].filter((address) => !said.includes(address))
      .slice(0, MOST_ADDRESSES_PER_SENDER);
    if (fresh.length === 0) return [];
    if (!this.#said.has(sender)) this.#makeRoomForSender();
    while (said.length + fresh.length > MOST_ADDRESSES_PER_SENDER) {
      const old = hintToForget(said, (address) => this.#tried.has(address));
      said = said.filter((address) => address !== old);
    }
    this.#said.set(sender, [...said, ...fresh]);
    this.#forgetTried();
    return fresh.filter((address) => !known.has(address));
  }

  /** Whether there is an address that has not been tried. */
  get hasNext(): boolean {
    return this.#waiting().length > 0;
  }

  /**
   * An address that has not been tried, and from now on has. Every other time, on the average, any one of
   * any sender; else of those of whom the least has been tried, so that who says much gets no more turns
   * than who says little, nor who is always somebody new more than who says a second one.
   */
  next(): string | undefined {
    const waiting = this.#waiting();
    const least = Math.min(...waiting.map(({ tried }) => tried));
    const isOpen = Math.random() < 0.5;
    const said = anyOf(waiting.filter(({ tried }) => isOpen || tried === least))?.untried;
    const address = said && anyOf(said);
    if (address !== undefined) this.#tried.add(address);
    return address;
  }

  /** From now on nothing has been tried. */
  startAnew(): void {
    this.#tried.clear();
  }

  /** What each sender says that has not been tried, if there is something. */
  #waiting(): { tried: number; untried: string[] }[] {
    return [...this.#said.values()].map((said) => {
      const untried = said.filter((address) => !this.#tried.has(address));
      return { tried: said.length - untried.length, untried };
    }).filter(({ untried }) => untried.length > 0);
  }

  #addresses(): Set<string> {
    return new Set([...this.#said.values()].flat());
  }

  #makeRoomForSender(): void {
    if (this.#said.size < MOST_SENDERS) return;
    const isTried = (address: string) => this.#tried.has(address);
    const [sender] = hintToForget([...this.#said], ([, said]) => said.every(isTried));
    this.#said.delete(sender);
  }

  /** What nobody says any more may be said anew, and be tried anew. */
  #forgetTried(): void {
    this.#tried = this.#tried.intersection(this.#addresses());
  }
}

/** Any one that has been tried, or if there is none, any one. */
function hintToForget<T>(all: readonly T[], isTried: (one: T) => boolean): T {
  return anyOf(all.filter(isTried)) ?? anyOf(all)!;
}

function anyOf<T>(all: readonly T[]): T | undefined {
  return all[Math.floor(Math.random() * all.length)];
}
