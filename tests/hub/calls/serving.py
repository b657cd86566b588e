"""vLLM's own LoRA resolvers, as its plugins register them."""

import asyncio

from vllm.lora.resolver import LoRAResolverRegistry
from vllm.plugins.lora_resolvers.filesystem_resolver import register_filesystem_resolver
from vllm.plugins.lora_resolvers.hf_hub_resolver import register_hf_hub_resolver

register_hf_hub_resolver()
register_filesystem_resolver()


def resolve(base, name, resolver="Hf Hub Resolver"):
    """The name and the folder that vLLM would load; None where there is none."""
    request = asyncio.run(LoRAResolverRegistry.get_resolver(resolver).resolve_lora(base, name))
    return request and [request.lora_name, request.lora_path]
