"""Two pools as what orchestrators read: a graph of NVIDIA Dynamo, or values of llm-d's model service.

References
----------
ai-dynamo/dynamo, `examples/backends/vllm/deploy/disagg.yaml` (`DynamoGraphDeployment`, v1alpha1).
llm-d-incubation/llm-d-modelservice, `examples/values-pd.yaml`.
"""

from __future__ import annotations

import json

from sim_core.price.pools import decode_of, prefill_of
from sim_core.questions.deployment.launch.engines import checkpoint_of, vllm_flags
from sim_core.scenario.scenario import Scenario, model_of

TRANSFER = {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
DYNAMO_IMAGE = "nvcr.io/nvidia/ai-dynamo/vllm-runtime:TAG"
LLMD_IMAGE = "vllm/vllm-openai:TAG"


def _workers(scenario: Scenario) -> list[tuple[str, Scenario]]:
    """Return the pools by name, each as engines of its own."""
    return [("decode", decode_of(scenario)), ("prefill", prefill_of(scenario))]


def _quoted(words: list[str], indent: int) -> list[str]:
    return [f"{' ' * indent}- {json.dumps(word)}" for word in words]


def dynamo_graph(scenario: Scenario) -> str:
    """Return two pools as a graph of NVIDIA Dynamo, with vLLM as the engine."""
    lines = [
        "apiVersion: nvidia.com/v1alpha1",
        "kind: DynamoGraphDeployment",
        "metadata:",
        "  name: two-pools",
        "spec:",
        "  services:",
        "    Frontend:",
        "      componentType: frontend",
        "      replicas: 1",
        "      extraPodSpec:",
        "        mainContainer:",
        f"          image: {DYNAMO_IMAGE}",
    ]
    for name, pool in _workers(scenario):
        words = ["--model", checkpoint_of(model_of(scenario)), "--disaggregation-mode", name]
        lines += [
            f"    Vllm{name.capitalize()}Worker:",
            "      componentType: worker",
            f"      subComponentType: {name}",
            f"      replicas: {pool.replicas}",
            "      resources:",
            "        limits:",
            f'          gpu: "{pool.accelerators // pool.replicas}"',
            "      extraPodSpec:",
            "        mainContainer:",
            f"          image: {DYNAMO_IMAGE}",
            "          command: [python3, -m, dynamo.vllm]",
            "          args:",
            *_quoted([*words, *vllm_flags(pool)], 12),
        ]
    return "\n".join(lines)


def llmd_values(scenario: Scenario) -> str:
    """Return two pools as values of llm-d's model service."""
    checkpoint = checkpoint_of(model_of(scenario))
    lines = ["modelArtifacts:", f"  name: {checkpoint}", f'  uri: "hf://{checkpoint}"']
    for name, pool in _workers(scenario):
        flags = [*vllm_flags(pool), "--kv-transfer-config", json.dumps(TRANSFER)]
        devices = pool.accelerators // pool.replicas
        lines += [
            f"{name}:",
            "  create: true",
            f"  replicas: {pool.replicas}",
            "  containers:",
            '  - name: "vllm"',
            f'    image: "{LLMD_IMAGE}"',
            "    modelCommand: vllmServe",
            "    args:",
            *_quoted(flags, 6),
            "    resources:",
            "      limits:",
            f'        nvidia.com/gpu: "{devices}"',
            "      requests:",
            f'        nvidia.com/gpu: "{devices}"',
            "    mountModelVolume: true",
        ]
    return "\n".join(lines)
