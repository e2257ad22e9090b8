#!/bin/bash
# One run over two machines of eight GPUs, by Slurm and torchrun. Plan it first:
#   muybridge compare --data set.csv --models i3d_resnet50 --out big --plan-only --set runtime.checkpoint_steps=200
#SBATCH --job-name=muybridge-big
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=big-%j.txt
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# Else a restart finds the addresses of the processes before it.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
# A process that is lost ends all; torchrun starts them again, and the run continues from its last checkpoint.
exec srun --kill-on-bad-exit=0 torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 8 --max-restarts 5 \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$first:29500" \
    -m muybridge work big
