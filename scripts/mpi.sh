#!/bin/bash
# Builds the MPI plug-in (`cluster.exchange: mpi`, docs/mpi.md) with this site's mpicc, beside the program or in FOLDER:
# scripts/mpi.sh [FOLDER]. MPICC names another compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

compiler=${MPICC:-mpicc}
folder=${1:-.build/release}
if ! command -v "$compiler" >/dev/null; then
  echo "there is no $compiler here; on Debian: apt-get install libopenmpi-dev openmpi-bin; on a cluster: load its MPI, as with: module load openmpi" >&2
  exit 1
fi
# -Wno-stringop-overflow: GCC warns about MPI_STATUSES_IGNORE of MPICH's header.
# The file is written under another name first, because a running worker has the old file open.
"$compiler" -std=c11 -O2 -Wall -Wno-stringop-overflow -fPIC -fvisibility=hidden -shared -o "$folder/libress-mpi.so.new" Sources/C/CMPI/ress_mpi.c
mv "$folder/libress-mpi.so.new" "$folder/libress-mpi.so"
echo "Built $folder/libress-mpi.so"
