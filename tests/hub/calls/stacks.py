"""The calls by which serving stacks fetch an adapter: those of SGLang 0.5, LoRAX 0.12 and TGI 3, without their engines.

Source: sglang/srt/lora/lora_config.py and model_loader/loader.py; lorax_server/utils/sources/hub.py;
text_generation_server/utils/hub.py.
"""

from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download


def sglang(repo):
    folder = snapshot_download(repo, allow_patterns=["*.json"])
    return snapshot_download(repo, allow_patterns=["*.safetensors", "*.bin", "*.json"]) if folder else None


def lorax(repo):
    names = [file.rfilename for file in HfApi().model_info(repo, revision=None).siblings]
    names = [name for name in names if name.endswith(".safetensors") and "/" not in name]
    fetched = [hf_hub_download(filename=name, repo_id=repo, revision=None) for name in ["adapter_config.json", *names]]
    return str(Path(fetched[-1]).parent)


def tgi(repo):
    names = [file.rfilename for file in HfApi().model_info(repo, revision="main").siblings]
    names = [name for name in names if name.endswith(".safetensors") and "arguments" not in name]
    fetched = [hf_hub_download(filename=name, repo_id=repo, revision="main") for name in names]
    hf_hub_download(repo, "adapter_config.json")
    return str(Path(fetched[-1]).parent)
