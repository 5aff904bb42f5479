#!/bin/sh
# Install the locked packages: all of them, or without CUDA on machines that have none.
#   sh configs/cluster/install.sh requirements.lock 0    # CPU only
#   sh configs/cluster/install.sh requirements.lock 1    # with CUDA
set -eu
lock=$1
cuda=${2:-0}

if [ "$cuda" = 1 ]; then
    pip install --requirement "$lock"
    exit 0
fi
version() { sed -n "s/^$1==//p" "$lock"; }
# The wheels of PyTorch for CPUs lie in an index of their own.
pip install --index-url https://download.pytorch.org/whl/cpu "torch==$(version torch)" "torchvision==$(version torchvision)"
# faiss-cpu is the same library as faiss-gpu without CUDA.
grep -viE '^(torch|torchvision|triton|faiss-gpu|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==' "$lock" > /tmp/cpu.lock
echo "faiss-cpu==$(version faiss-gpu)" >> /tmp/cpu.lock
pip install --requirement /tmp/cpu.lock
