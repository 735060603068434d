# Rendered by Pilotis from contract 'rag', digest 581dccdcd374dcd99ca4f57d5f20f24c8f3ff30a23ba4b2521abb4c440f7ea66.
# Edit the contract, then run: pilotis render

output "region" {
  description = "Where all of it is."
  value       = "eu-west-3"
}

output "cluster_name" {
  description = "For aws eks update-kubeconfig."
  value       = module.cluster.cluster_name
}

output "vpc_id" {
  description = "The network."
  value       = module.vpc.vpc_id
}

output "key_arn" {
  description = "The key of all that is stored."
  value       = module.key.key_arn
}

output "database_host" {
  description = "Postgres."
  value       = module.database.db_instance_address
}

output "broker_host" {
  description = "The Redis of the queues."
  value       = module.broker.endpoint
}

output "cache_host" {
  description = "The Redis of budgets and caches."
  value       = module.cache.endpoint
}

output "blobs_bucket" {
  description = "The original files."
  value       = module.blobs.s3_bucket_id
}

output "service_role_arn" {
  description = "What the service may do in the cloud."
  value       = aws_iam_role.service.arn
}

output "secret_names" {
  description = "Secrets by name: External Secrets brings their values to the cluster, and they pass through no output."

  value = [
    "rag/prod/PILOTIS_DATABASE_URL",
    "rag/prod/PILOTIS_REDIS_URL",
    "rag/prod/PILOTIS_BROKER_URL",
    "rag/prod/OPENAI_API_KEY",
    "rag/prod/PILOTIS_JUDGE_KEY",
  ]
}

output "database_replica_host" {
  description = "A copy of Postgres that questions may use."
  value       = module.replica.db_instance_address
}
