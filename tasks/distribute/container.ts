/** A container that serves one repository: Dockerfile, compose file and the scripts that they need. */

import { PROGRAM } from "../../lib/console/program.ts";
import { GIT_ANNEX_PACKAGE } from "../tools.ts";
import { DOWNLOADS } from "./installer.ts";
import { METADATA } from "./metadata.ts";

/** Base image. Its glibc is new enough, also for git-annex. */
const IMAGE = "debian:trixie-slim";
/** The relay that tests and CI use, from crates.io. */
const RELAY = "iroh-relay@1.4.1";

/** Returns the files, by name. @param installer The script `install.sh`. */
export function containerFiles(installer: string): Map<string, string> {
  return new Map([
    ["Dockerfile", DOCKERFILE],
    ["relay.Dockerfile", RELAY_DOCKERFILE],
    ["relay.toml", RELAY_CONFIG],
    ["compose.yaml", COMPOSE],
    ["serve.sh", SERVE],
    ["install.sh", installer],
  ]);
}

const DOCKERFILE = `# ${METADATA.summary}, with git-annex; compose.yaml says how to use it
FROM ${IMAGE}
ARG ${DOWNLOADS}
# From PyPI, since Debian's git-annex is older than ${METADATA.gitAnnex}.
RUN apt-get update \\
  && apt-get install --yes --no-install-recommends \\
    ca-certificates curl git magic-wormhole openssh-client python3-pip xz-utils \\
  && rm -rf /var/lib/apt/lists/* \\
  && pip install --no-cache-dir --target /opt/git-annex ${GIT_ANNEX_PACKAGE} \\
  && for name in git-annex git-annex-shell git-remote-annex git-remote-p2p-annex; do \\
    ln -s /opt/git-annex/git_annex/git-annex "/usr/local/bin/$name"; \\
  done
COPY install.sh serve.sh /opt/
RUN sh /opt/install.sh /usr/local \\
  && useradd --create-home --uid 1000 annex \\
  && install -d -o annex -g annex /annex
USER annex
WORKDIR /annex
VOLUME /annex
LABEL org.opencontainers.image.title="${METADATA.name}" \\
  org.opencontainers.image.version="${METADATA.version}" \\
  org.opencontainers.image.licenses="${METADATA.license}" \\
  org.opencontainers.image.source="${METADATA.homepage}"
CMD ["sh", "/opt/serve.sh"]
`;

const SERVE = `#!/bin/sh
# Serves the repository in /annex, and makes it first if there is none.
set -eu
cd /annex
git config --global user.name >/dev/null || git config --global user.name "\${GIT_NAME:-annex}"
git config --global user.email >/dev/null || git config --global user.email "\${GIT_EMAIL:-annex@localhost}"
git config --global --get-all safe.directory >/dev/null || git config --global safe.directory /annex
if [ ! -e .git ]; then
  git init --initial-branch=main
  git annex init "\${ANNEX_NAME:-container}"
fi
exec ${PROGRAM} up
`;

const COMPOSE = `# Start it:   docker compose up --detach
# Pair it:    docker compose exec annex git-annex-p2p-iroh invite
# Look at it: docker compose exec annex ${PROGRAM} status
services:
  annex:
    build: .
    init: true
    restart: unless-stopped
    # Transfers in progress get 10 s to finish.
    stop_grace_period: 20s
    # The network of the host, so that multicast DNS finds peers on the local network.
    network_mode: host
    environment:
      ANNEX_NAME: container
      # To use the relay below: its public URL.
      # GIT_ANNEX_P2P_IROH_RELAY: https://relay.example.org
    volumes:
      - annex:/annex

  # A relay of one's own. Start it too: docker compose --profile relay up --detach
  relay:
    profiles: [relay]
    build:
      context: .
      dockerfile: relay.Dockerfile
    init: true
    restart: unless-stopped
    network_mode: host
    volumes:
      - ./relay.toml:/etc/iroh-relay.toml:ro
      - relay:/var/lib/iroh-relay

volumes:
  annex:
  relay:
`;

const RELAY_DOCKERFILE = `# iroh's relay. relay.toml is its configuration.
FROM rust:slim-trixie AS build
RUN cargo install --locked --root /usr/local --features server ${RELAY}

FROM ${IMAGE}
RUN apt-get update \\
  && apt-get install --yes --no-install-recommends ca-certificates libcap2-bin \\
  && rm -rf /var/lib/apt/lists/* \\
  && useradd --system relay \\
  && install -d -o relay /var/lib/iroh-relay
COPY --from=build /usr/local/bin/iroh-relay /usr/local/bin/
# For ports 80 and 443 on the network of the host.
RUN setcap cap_net_bind_service=+ep /usr/local/bin/iroh-relay
USER relay
CMD ["iroh-relay", "--config-path", "/etc/iroh-relay.toml"]
`;

const RELAY_CONFIG =
  `# iroh-relay with a certificate of Let's Encrypt: put in your host name and your mail address.
enable_quic_addr_discovery = true
enable_metrics = false
# Only peers that have one of these tokens may use it. Without this line, everyone may.
# access.shared_token = ["REPLACE-BY-A-LONG-RANDOM-TEXT"]

[tls]
hostname = ["relay.example.org"]
contact = "you@example.org"
cert_mode = "LetsEncrypt"
prod_tls = true
cert_dir = "/var/lib/iroh-relay"
`;
