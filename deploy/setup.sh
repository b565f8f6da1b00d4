#!/usr/bin/env bash
# Installs the system packages that a step needs, through apt when root or sudo allows it;
# where it does not, prints the one line that says what to install.
#   deploy/setup.sh run    to build and run (compiler, Python headers)
#   deploy/setup.sh test   also Java 17 and Maven (the real Kafka and registry of the tests),
#                          Chromium (the page), Prometheus (the alerts) and docker-compose
#                          (reads the compose file; starts nothing)
#   deploy/setup.sh dates  the sources of other languages' locales
#   deploy/setup.sh bench  also wrk (requests per second)
set -euo pipefail
want=${1:-run}
python=${PYTHON:-}

pick_python() {
  for candidate in ${python:-python3.11 python3.12 python3.13 python3}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
}

missing() {
  local found
  found=$(pick_python)
  if [ -z "$found" ]; then
    if apt-cache show python3.11 >/dev/null 2>&1; then
      echo python3.11 python3.11-venv python3.11-dev
    else
      echo python3 python3-venv python3-dev
    fi
  else
    local version
    version=$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$found" -c 'import ensurepip' 2>/dev/null || echo "python$version-venv"
    "$found" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
      echo "python$version-dev"
  fi
  command -v g++ >/dev/null || echo g++
  command -v make >/dev/null || echo make
  if [ "$want" = dates ]; then
    [ -f /usr/share/i18n/locales/de_DE ] || echo locales
  fi
  if [ "$want" = bench ]; then
    command -v wrk >/dev/null || echo wrk
  fi
  if [ "$want" = test ] || [ "$want" = bench ]; then
    local java
    java=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' || true)
    [ "${java:-0}" -ge 17 ] || echo default-jre-headless
    command -v mvn >/dev/null || echo maven
    command -v chromium >/dev/null || echo chromium
    command -v promtool >/dev/null || echo prometheus
    command -v docker-compose >/dev/null || echo docker-compose
  fi
}

needed=$(missing | tr '\n' ' ')
if [ -z "${needed// /}" ]; then
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo "setup: please install what these Debian packages hold, then try again: $needed" >&2
  exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    as_root=sudo
  else
    echo "setup: please run as root, then try again: apt-get install $needed" >&2
    exit 1
  fi
fi
echo "setup: installing $needed" >&2
$as_root apt-get update -qq
# a fresh index may know packages that the old one did not
needed=$(missing | tr '\n' ' ')
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $needed >/dev/null
case " $needed " in
*" prometheus "*)
  # the tests start servers of their own, none is wanted that starts with the machine
  if [ -d /run/systemd/system ]; then $as_root systemctl disable --now --quiet prometheus || true; fi
  ;;
esac
