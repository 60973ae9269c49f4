#!/bin/bash
# Builds the plug-in that speaks MPI (`cluster.exchange: mpi`, docs/mpi.md) with this site's mpicc, beside the program or into a FOLDER:
# scripts/mpi.sh [FOLDER]. MPICC names another compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

compiler=${MPICC:-mpicc}
folder=${1:-.build/release}
if ! command -v "$compiler" >/dev/null; then
  echo "there is no $compiler here; on Debian: apt-get install libopenmpi-dev openmpi-bin; on a cluster: module load openmpi, or whatever MPI it has" >&2
  exit 1
fi
# MPICH's header calls MPI_STATUSES_IGNORE an array that is too short.
# Written under another name first: a worker that runs has the old file open.
"$compiler" -std=c11 -O2 -Wall -Wno-stringop-overflow -fPIC -fvisibility=hidden -shared -o "$folder/libress-mpi.so.new" Sources/CMPI/ress_mpi.c
mv "$folder/libress-mpi.so.new" "$folder/libress-mpi.so"
echo "Built $folder/libress-mpi.so"
